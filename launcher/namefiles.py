# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container reads of names: /etc/hosts, /etc/hostname and /etc/resolv.conf.

They lie in the container's directory and are mounted over the image's, as docker does; written
anew at each start. A change that the container makes lasts until the next.
"""

from __future__ import annotations

import contextlib
import os

from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.record import Record
from launcher.typed import Final

__all__ = ["write"]

_LOCAL: Final = b"""127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def write(paths: Paths, record: Record) -> None:
    """Write the three files, for the container's root to own. Raises LaunchError."""
    directory = paths.container(record.id)
    uid, gid = 0, 0
    if record.userns:
        uid, gid = (int(each) for each in record.userns.split(":")[:2])
    contents = {
        b"hostname": os.fsencode(record.hostname) + b"\n",
        b"hosts": _hosts(record),
        b"resolv.conf": _resolver(record),
    }
    for name, content in contents.items():
        path = directory + b"/" + name
        try:
            # In place: a file that is mounted somewhere stays the one it is.
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                os.write(fd, content)
                if uid or gid:
                    os.fchown(fd, uid, gid)
                os.fchmod(fd, 0o644)
            finally:
                os.close(fd)
        except OSError as error:
            raise LaunchError("write", path, error) from error


def _hosts(record: Record) -> bytes:
    content = _read(b"/etc/hosts") if record.network == "host" else _LOCAL
    name = os.fsencode(record.hostname)
    if record.network == "none" and name:
        # Without an address of its own the name stands for the container itself.
        domain = b"." + os.fsencode(record.domainname) if record.domainname else b""
        full = name + domain + b" " + name if domain else name
        content += b"127.0.1.1\t" + full + b"\n"
    for each in record.extra_hosts:
        host, _, address = each.partition(":")
        content += os.fsencode(f"{address}\t{host}\n")
    return content


def _resolver(record: Record) -> bytes:
    """The host's, without name servers that listen on the host alone; or what was asked for."""
    lines = []
    kept = {
        b"nameserver": not record.dns,
        b"search": not record.dns_search,
        b"domain": not record.dns_search,
        b"options": not record.dns_options,
    }
    for line in _read(b"/etc/resolv.conf").splitlines():
        word, _, rest = line.strip().partition(b" ")
        own = word == b"nameserver" and record.network != "host" and _is_loopback(rest.strip())
        if kept.get(word, False) and not own:
            lines.append(line.strip())
    lines += [b"nameserver " + os.fsencode(each) for each in record.dns]
    # docker: a sole "." means to search nowhere.
    search = tuple(each for each in record.dns_search if each != ".")
    if search:
        lines.append(b"search " + os.fsencode(" ".join(search)))
    if record.dns_options:
        lines.append(b"options " + os.fsencode(" ".join(record.dns_options)))
    return b"".join(line + b"\n" for line in lines)


def _is_loopback(address: bytes) -> bool:
    return address.startswith(b"127.") or address == b"::1"


def _read(path: bytes) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""
