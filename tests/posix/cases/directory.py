# SPDX-License-Identifier: GPL-3.0-or-later
"""readdir(3) and its family, also while the directory changes."""

from __future__ import annotations

import errno
import os
import stat

from tests.posix.expect import exists, fails, listing
from tests.posix.scene import directory, file, one_of_each
from tests.posix.table import Steps, nightly
from tests.support.syscall import DirectoryStream


def _names(stream: DirectoryStream) -> list[bytes]:
    return [name for name, _, _ in stream.rest()]


def lists_each_once() -> Steps:
    """Every name once, with `.` and `..`."""
    directory("d")
    os.chdir("d")
    names = one_of_each()
    os.chdir("..")
    yield
    with DirectoryStream("d") as stream:
        found = _names(stream)
    assert sorted(found) == sorted([b".", b"..", *map(os.fsencode, names)])


def types_and_numbers() -> Steps:
    """d_type and d_ino say what lstat(2) says, of `.` and `..` too."""
    directory("d")
    os.chdir("d")
    one_of_each()
    file("a")
    os.link("a", "b")
    os.chdir("..")
    yield
    for _ in range(2):
        with DirectoryStream("d") as stream:
            for name, number, kind in stream.rest():
                path = b"d/" + name
                found = os.lstat(path)
                assert number == found.st_ino, path
                assert kind == stat.S_IFMT(found.st_mode) >> 12, path
        # A second time after every object was changed, in the upper layer of a union.
        for other in os.listdir("d"):
            if other != "symlink":
                os.chmod(f"d/{other}", 0o700)


def types_of_replaced_names() -> Steps:
    """A name made again as another type is listed as what it is."""
    directory("d")
    os.chdir("d")
    names = one_of_each()
    os.chdir("..")
    yield
    for name in names:
        (os.rmdir if name == "directory" else os.unlink)(f"d/{name}")
    assert listing("d") == []
    for name in names:
        if name == "directory":
            file(f"d/{name}")
        else:
            directory(f"d/{name}")
    with DirectoryStream("d") as stream:
        kinds = {name: kind for name, _, kind in stream.rest()}
    assert kinds.pop(b"directory") == stat.S_IFREG >> 12
    assert set(kinds.values()) == {stat.S_IFDIR >> 12}


def ten_thousand() -> Steps:
    """A directory of 10,000 entries: each name once, on the second listing too."""
    directory("d")
    for number in range(10_000):
        os.close(os.open(f"d/entry{number:05}", os.O_CREAT | os.O_WRONLY, 0o644))
    yield
    wanted = [f"entry{number:05}" for number in range(10_000)]
    assert listing("d") == wanted
    for number in range(0, 10_000, 100):
        os.unlink(f"d/entry{number:05}")
        file(f"d/added{number:05}")
    found = listing("d")
    assert len(found) == 10_000
    assert found == sorted(
        [name for name in wanted if not name.endswith("00")]
        + [f"added{number:05}" for number in range(0, 10_000, 100)]
    )


@nightly
def hundred_thousand() -> Steps:
    """A directory of 100,000 entries."""
    directory("d")
    for number in range(100_000):
        os.close(os.open(f"d/{number:06}", os.O_CREAT | os.O_WRONLY, 0o644))
    yield
    assert listing("d") == [f"{number:06}" for number in range(100_000)]


def tell_and_seek() -> Steps:
    """seekdir(3) goes back to any place that telldir(3) told."""
    directory("d")
    for number in range(500):
        file(f"d/{number}")
    yield
    with DirectoryStream("d") as stream:
        places = []
        names = []
        while True:
            place = stream.tell()
            entry = stream.read()
            if entry is None:
                break
            places.append(place)
            names.append(entry[0])
        assert len(set(names)) == len(names) == 502
        for index in (0, 1, 2, 3, 100, 250, 499, 501):
            stream.seek(places[index])
            assert _names(stream) == names[index:], index


def seek_after_changes() -> Steps:
    """A told place is good while others come and go: what stays is listed once, not again."""
    directory("d")
    for number in range(300):
        file(f"d/{number}")
    yield
    with DirectoryStream("d") as stream:
        seen = [entry[0] for _ in range(100) if (entry := stream.read())]
        place = stream.tell()
        for name in seen[2:50]:
            if name not in (b".", b".."):
                os.unlink(b"d/" + name)
        for number in range(50):
            file(f"d/new{number}")
        stream.seek(place)
        rest = _names(stream)
    kept = {b"%d" % number for number in range(300)} - set(seen)
    assert kept <= set(rest)
    assert not set(rest) & set(seen)
    assert len(rest) == len(set(rest))


def rewind_sees_changes() -> Steps:
    """rewinddir(3) starts anew with what is there now."""
    directory("d")
    file("d/old")
    file("d/gone")
    yield
    with DirectoryStream("d") as stream:
        assert sorted(_names(stream)) == [b".", b"..", b"gone", b"old"]
        file("d/new")
        os.unlink("d/gone")
        stream.rewind()
        assert sorted(_names(stream)) == [b".", b"..", b"new", b"old"]
        os.unlink("d/new")
        stream.rewind()
        assert sorted(_names(stream)) == [b".", b"..", b"old"]


def remove_while_listing() -> Steps:
    """Removing each entry as it is read removes them all, as rm -r and mail spools do."""
    directory("d")
    for number in range(2000):
        file(f"d/{number:04}")
    yield
    with DirectoryStream("d") as stream:
        while (entry := stream.read()) is not None:
            if entry[0] not in (b".", b".."):
                os.unlink(b"d/" + entry[0])
    assert listing("d") == []
    os.rmdir("d")


def create_while_listing() -> Steps:
    """Names made meanwhile may be listed or not; none twice, and the old ones all."""
    directory("d")
    for number in range(500):
        file(f"d/old{number}")
    yield
    seen = []
    with DirectoryStream("d") as stream:
        while (entry := stream.read()) is not None:
            seen.append(entry[0])
            if len(seen) % 5 == 0 and len(seen) < 1000:
                file(f"d/new{len(seen)}")
    assert len(seen) == len(set(seen))
    assert {b"old%d" % number for number in range(500)} <= set(seen)


def rename_while_listing() -> Steps:
    """A file renamed meanwhile is seen under one of its names at least; others once."""
    directory("d")
    for number in range(300):
        file(f"d/{number}")
    yield
    with DirectoryStream("d") as stream:
        seen = [entry[0] for _ in range(10) if (entry := stream.read())]
        others = {f"{number}" for number in range(300)} - {os.fsdecode(name) for name in seen}
        moved = sorted(others)[:20]
        for name in moved:
            os.rename(f"d/{name}", f"d/moved-{name}")
        rest = _names(stream)
    assert len(rest) == len(set(rest))
    assert {os.fsencode(name) for name in others - set(moved)} <= set(rest)
    assert len(listing("d")) == 300


def two_streams() -> Steps:
    """Two streams on one directory do not disturb each other."""
    directory("d")
    for number in range(100):
        file(f"d/{number}")
    yield
    with DirectoryStream("d") as one, DirectoryStream("d") as two:
        first = [one.read() for _ in range(50)]
        assert len(_names(two)) == 102
        rest = one.rest()
    assert len({entry[0] for entry in [*first, *rest] if entry}) == 102


def after_every_change() -> Steps:
    """A listing is right after each single change, however often it was listed before."""
    directory("d")
    file("d/a")
    directory("d/b")
    file("d/c")
    yield
    assert listing("d") == ["a", "b", "c"]
    os.unlink("d/a")
    assert listing("d") == ["b", "c"]
    os.rmdir("d/b")
    assert listing("d") == ["c"]
    file("d/b")
    assert listing("d") == ["b", "c"]
    os.rename("d/c", "d/a")
    assert listing("d") == ["a", "b"]
    os.rename("d/a", "outside")
    assert listing("d") == ["b"]
    os.link("outside", "d/c")
    assert listing("d") == ["b", "c"]
    os.symlink("x", "d/s")
    assert listing("d") == ["b", "c", "s"]
    os.mkfifo("d/p")
    assert listing("d") == ["b", "c", "p", "s"]


def removed_names_are_not_found() -> Steps:
    """What is not listed cannot be opened, and what is can: the two agree."""
    directory("d")
    for number in range(50):
        file(f"d/{number}")
    yield
    for number in range(0, 50, 2):
        os.unlink(f"d/{number}")
    found = set(listing("d"))
    for number in range(50):
        assert (str(number) in found) == exists(f"d/{number}") == (number % 2 == 1)


def not_a_directory() -> Steps:
    """ENOTDIR from opendir(3)."""
    file("f")
    yield
    with fails(errno.ENOTDIR):
        DirectoryStream("f")


def fsync_works() -> Steps:
    """fsync(2) and fdatasync(2) of a directory."""
    directory("d")
    yield
    fd = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    file("d/f")
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
