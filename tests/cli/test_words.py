# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a command: what is understood, and the line and status where it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import unionfs
from tests.support.daemon import environment
from unionfs.cli import VERBS, command_line
from unionfs.cli.arguments import Arguments, Command, Flag, parse
from unionfs.errors import UnionError, UsageError, shown

TOOL = Command(
    "tool",
    "",
    "",
    (
        Flag(("-v", "--verbose"), None, ""),
        Flag(("-o",), "OPTIONS", ""),
        Flag(("-l", "--lower"), "DIR", ""),
        Flag(("-h", "--help"), None, ""),
    ),
)


def read(*words: bytes) -> Arguments:
    found = parse(TOOL, list(words))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("words", "flags", "operands"),
    [
        ([], {}, []),
        ([b"a", b"b"], {}, [b"a", b"b"]),
        ([b"-v", b"a"], {"--verbose": [b""]}, [b"a"]),
        ([b"a", b"--verbose"], {"--verbose": [b""]}, [b"a"]),
        ([b"--lower", b"x", b"--lower=y=z"], {"--lower": [b"x", b"y=z"]}, []),
        ([b"-lx", b"-l", b"-v"], {"--lower": [b"x", b"-v"]}, []),
        ([b"-vlx"], {"--verbose": [b""], "--lower": [b"x"]}, []),
        ([b"-vl=x=y", b"-v=false"], {"--lower": [b"x=y"]}, []),
        ([b"-vo", b"ro"], {"--verbose": [b""], "-o": [b"ro"]}, []),
        ([b"--", b"-v", b"--lower"], {}, [b"-v", b"--lower"]),
        ([b"-", b"\xff"], {}, [b"-", b"\xff"]),
    ],
)
def test_understood(
    words: list[bytes], flags: dict[str, list[bytes]], operands: list[bytes]
) -> None:
    assert read(*words) == (flags, operands)


STANDING = Command(
    "tool",
    "",
    "",
    (
        Flag(("--quick",), None, "", standing=True),
        Flag(("--name",), "NAME", "", empty=True),
    ),
)


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ([], {"--quick": [b""]}),
        ([b"--quick=false"], {}),
        ([b"--quick=false", b"--quick"], {"--quick": [b""]}),
        ([b"--quick=true", b"--name="], {"--quick": [b""], "--name": [b""]}),
        ([b"--name", b"", b"--quick=0"], {"--name": [b""]}),
    ],
)
def test_flags_that_stand_and_values_that_may_be_empty(
    words: list[bytes], flags: dict[str, list[bytes]]
) -> None:
    found = parse(STANDING, words)
    assert found is not None
    assert found.flags == flags


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([b"--nope"], "cannot understand --nope: there is no such option (see tool --help)"),
        ([b"-vx"], "cannot understand -x: there is no such option (see tool --help)"),
        ([b"--lower"], "cannot understand --lower: it needs a value, DIR (see tool --help)"),
        ([b"--lower="], "cannot understand --lower: it needs a value, DIR (see tool --help)"),
        ([b"-o"], "cannot understand -o: it needs a value, OPTIONS (see tool --help)"),
        (
            [b"--verbose=yes"],
            "cannot understand --verbose: it is true or false, not yes (see tool --help)",
        ),
        ([b"-\xff\n"], "cannot understand -\\xff: there is no such option (see tool --help)"),
    ],
)
def test_not_understood(words: list[bytes], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        ([], 2, "cannot begin: no command is given, such as mount, umount, mounts, diff"),
        (["fly"], 2, "cannot run lamina fly: the commands are mount, umount, mounts, diff"),
        (["mount"], 2, "cannot mount: no directory to mount on (see --help)"),
        (["mount", "a", "b"], 2, "cannot mount a b: more than one directory (see --help)"),
        (["mount", "--bad", "m"], 2, "cannot understand --bad: there is no such option"),
        (["mount", "m"], 2, "cannot mount m: no lower layer is named"),
        (["mount", "-o", "foo", "m"], 2, "cannot mount m: unknown option 'foo'"),
        (["mount", "--lower", "/", "--work", "w", "m"], 2, "--work is of no use without --upper"),
        (["mount", "--lower", "/", "-o", "lowerdir=/", "m"], 2, "are both given: use one"),
        (["mount", "--format", "zip", "m"], 2, "'zip' is none of overlay, aufs"),
        (["mount", "--format", "aufs,ro", "m"], 2, "is none of overlay, aufs"),
        (["mount", "--transport", "tcp", "m"], 2, "'tcp' is none of auto, device, pyfuse3"),
        (["mount", "--ready-fd", "x", "--lower", "/", "m"], 2, "cannot use --ready-fd x: it is"),
        (["mount", "--ready-fd", "999", "--lower", "/", "m"], 2, "cannot use --ready-fd 999:"),
        (["umount"], 2, "cannot unmount: no mount point is named"),
        (["umount", "/nonexistent"], 1, "cannot unmount /nonexistent: No such file or directory"),
        (["mounts", "x"], 2, "cannot list mounts of x: all of them are listed"),
        (["diff"], 2, "cannot compare: one mount point or upper directory is needed"),
        (["diff", "-o", "foo", "u"], 2, "cannot compare u: unknown option 'foo'"),
        (["diff", "/nonexistent"], 1, "/nonexistent: No such file or directory"),
        (["explain"], 2, "cannot explain: one path is needed"),
        (["explain", "/etc/passwd"], 1, "cannot explain /etc/passwd: it is not in a mounted union"),
    ],
)
def test_one_line_and_a_status(
    words: list[str], status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input gets one line that names the thing and the reason; 2 is usage, 1 is failure."""
    assert command_line(words) == status
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("lamina: cannot ")
    assert told.err.count("\n") == 1
    assert line in told.err


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["umount", "--debug", "/nonexistent"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith("lamina: cannot unmount /nonexistent: No such file or directory\n")


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line([verb, "--help"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"usage: lamina {verb} ")
    assert told.err == ""
    assert command_line(["--help"]) == 0
    assert f"  {verb} " in capsys.readouterr().out


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    """`lamina … | head` ends without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "unionfs", "mount", "--help"]
    try:
        done = subprocess.run(
            words, stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (b"/a b", "/a b"),
        ("/é".encode(), "/é"),
        (b"/\xe9", "/\\xe9"),
        (b"/a\nb\x1b[31m", "/a\\x0ab\\x1b[31m"),
        ("/\u2028", "/\\u2028"),
        ("/\U000e0001", "/\\U000e0001"),
    ],
)
def test_things_are_printed_safely(thing: bytes | str, text: str) -> None:
    assert shown(thing) == text
    assert str(UnionError("do", thing, "no")) == f"cannot do {text}: no"


def test_reasons() -> None:
    error = UnionError("open", b"/x", OSError(2, "whatever", "/y"))
    assert str(error) == "cannot open /x: No such file or directory"
    assert str(UnionError("begin", "", "no")) == "cannot begin: no"


def test_public_names() -> None:
    """Each public name can be had, and having the package alone loads none of its rooms."""
    for name in unionfs.__all__:
        assert getattr(unionfs, name) is not None
    assert set(unionfs.__all__) <= set(dir(unionfs))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = unionfs.nothing  # type: ignore[attr-defined]
    code = "import sys, unionfs; print([m for m in sys.modules if m.startswith('unionfs.')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout == "[]\n"


def test_what_a_mount_loads() -> None:
    """The device transport's daemon loads nothing that it does not use: start to mounted counts."""
    code = (
        "import sys\n"
        "import unionfs.cli.mount, unionfs.fuse.session, unionfs.fuse.daemon, unionfs.union\n"
        "import unionfs.fuse.device\n"
        "heavy = {'argparse', 'pyfuse3', 'trio', 'json', 'subprocess', 'asyncio', 'pathlib',\n"
        "         'tempfile', 'shutil', 'multiprocessing', 'syslog'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    bare = [sys.executable, "-S", "-c", code]  # what site loads is not ours
    done = subprocess.run(bare, capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout == "[]\n"


def test_a_switch_is_taken_back() -> None:
    assert not read(b"--verbose", b"--verbose=false").has("--verbose")
