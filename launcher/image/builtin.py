# SPDX-License-Identifier: GPL-3.0-or-later
"""The images that are there without being fetched: `busybox` and `host`.

`busybox` is made from the machine's own static busybox when it is first asked for, and is then an
image like any other. `host` is the machine's own root as the only layer; it is not in the store.
"""

from __future__ import annotations

import os

from launcher.errors import LaunchError
from launcher.image.model import Image, ImageConfig
from launcher.paths import Paths
from launcher.typed import Final

__all__ = ["HOST_ID", "host", "make_busybox"]

HOST_ID: Final = "686f7374" * 8
"""Not a digest: nobody's configuration hashes to the word "host", eight times."""

_PLACES: Final = ("/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox", "/sbin/busybox")
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIRECTORIES: Final = (
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var", 0o755),
    ("var/log", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
)
_FILES: Final = (
    (
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\n"
        b"daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        b"bin:x:2:2:bin:/bin:/bin/false\n"
        b"mail:x:8:8:mail:/var/spool/mail:/bin/false\n"
        b"www-data:x:33:33:www-data:/var/www:/bin/false\n"
        b"nobody:x:65534:65534:nobody:/home:/bin/false\n",
    ),
    (
        "etc/group",
        b"root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\n"
        b"wheel:x:10:root\nmail:x:8:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n",
    ),
    ("etc/shadow", b"root:*:::::::\nnobody:*:::::::\n"),
    ("etc/hostname", b""),
    ("etc/hosts", b""),
    ("etc/resolv.conf", b""),
)


def host() -> Image:
    """The machine's own root, read-only."""
    shell = next((each for each in ("/bin/bash", "/bin/sh") if os.path.exists(each)), "/bin/sh")
    config = ImageConfig(env=(_PATH,), cmd=(shell,))
    return Image(HOST_ID, "host:latest", (b"/",), config)


def make_busybox(paths: Paths) -> None:
    """Put `busybox:latest` into the store. Raises LaunchError if the machine has no busybox.

    Two commands at once make the same image, and one of them is kept.
    """
    from launcher.image import config
    from launcher.image.store import Store
    from launcher.image.tarwrite import Writer
    from launcher.rfc3339 import rfc3339

    place = _find()
    fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        applets = _applets(place)

        def fill(writer: Writer) -> None:
            _fill(writer, fd, found, applets)

        with Store(paths) as store, store.adding() as adding:
            layer = adding.write(fill)
            settings = {"Env": [_PATH], "Cmd": ["sh"]}
            made = "made of the machine's busybox"
            history = [{"created": rfc3339(found.st_mtime_ns), "created_by": made}]
            document = config.new(settings, [layer.diff_id], found.st_mtime_ns, history)
            adding.image(document, [layer], ["busybox:latest"])
    finally:
        os.close(fd)


def _fill(writer: object, fd: int, found: os.stat_result, applets: list[bytes]) -> None:
    from launcher.image import tar
    from launcher.image.tar import Entry
    from launcher.image.tarwrite import Writer

    assert isinstance(writer, Writer)
    when = found.st_mtime_ns
    writer.add(Entry(b"./", tar.DIRECTORY, 0o755, mtime=when))
    for name, mode in _DIRECTORIES:
        writer.add(Entry(name.encode() + b"/", tar.DIRECTORY, mode, mtime=when))
    writer.add(Entry(b"bin/busybox", tar.FILE, 0o755, size=found.st_size, mtime=when), fd)
    for applet in applets:
        writer.add(Entry(b"bin/" + applet, tar.SYMLINK, 0o777, mtime=when, link=b"busybox"))
    for name, content in _FILES:
        mode = 0o640 if name == "etc/shadow" else 0o644
        writer.add_bytes(Entry(name.encode(), tar.FILE, mode, mtime=when), content)


def _find() -> str:
    reason = "the machine has no busybox to make it of (Debian: busybox-static)"
    for place in _PLACES:
        if os.path.exists(place):
            if _static(place):
                return place
            reason = f"{place} needs shared libraries (Debian: busybox-static)"
    raise LaunchError("make image", "busybox", reason)


def _static(place: str) -> bool:
    """Whether an ELF executable asks for no interpreter (elf(5), PT_INTERP)."""
    with open(place, "rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF":
            return False
        wide = head[4] == 2
        order = "little" if head[5] == 1 else "big"

        def number(begin: int, size: int, data: bytes = head) -> int:
            return int.from_bytes(data[begin : begin + size], order)  # type: ignore[arg-type]

        offset = number(32, 8) if wide else number(28, 4)
        size, count = (number(54, 2), number(56, 2)) if wide else (number(42, 2), number(44, 2))
        file.seek(offset)
        table = file.read(size * count)
    return all(number(at * size, 4, table) != 3 for at in range(count))


def _applets(place: str) -> list[bytes]:
    import subprocess

    try:
        listed = subprocess.run([place, "--list"], check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise LaunchError("make image", "busybox", f"{place} --list failed: {error}") from error
    return sorted({name for name in listed.split() if name != b"busybox" and b"/" not in name})
