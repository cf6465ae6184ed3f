# SPDX-License-Identifier: GPL-3.0-or-later
"""Doing something in a copy of this process, which a SIGKILL to this one cannot leave for ever.

A supervisor serves its container's union on a thread. Where the whole process is killed while it
waits for an answer of its own, there is nobody to give it. The wait cannot be interrupted, since
the request was taken already (fuse.rst, "Interrupting filesystem operations"), and the descriptor
whose end would end the session is held by the very process that cannot end. So what looks into the
union does it from a copy that has let go of that descriptor.
"""

from __future__ import annotations

import marshal
import os
import warnings

from launcher.errors import LaunchError, SpecError
from launcher.sys import process
from launcher.typed import Any, Callable, NoReturn

__all__ = ["do"]

_CHUNK = 1 << 16


def do(call: Callable[[], Any], keep: tuple[int, ...] = ()) -> Any:
    """What `call` returns or raises, of which LaunchError and OSError pass as they are.

    call -- its result is of plain values (marshal), a named tuple comes as a plain one
    keep -- the descriptors that it needs, besides the standard ones
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with warnings.catch_warnings():
            # Python warns of fork where there are threads; the copy goes on with this one only.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _answer(call, keep, writer)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    try:
        content = b""
        while chunk := os.read(reader, _CHUNK):
            content += chunk
    finally:
        os.close(reader)
        os.waitpid(pid, 0)
    if not content:
        raise LaunchError("look into the container", b"", "the process that did was killed")
    kind, value = marshal.loads(content)
    if kind == "":
        return value
    if kind == "OSError":
        raise OSError(*value)
    raise (SpecError if kind == "SpecError" else LaunchError)(*value)


def _answer(call: Callable[[], Any], keep: tuple[int, ...], writer: int) -> NoReturn:
    """In the copy. It never returns."""
    status = 1
    try:
        process.close_all_but((0, 1, 2, *keep, writer))
        view = memoryview(marshal.dumps(_outcome(call)))
        while view:
            view = view[os.write(writer, view) :]
        status = 0
    finally:
        os._exit(status)


def _outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    try:
        value = call()
    except LaunchError as error:
        return type(error).__name__, (error.what, error.thing, str(error.reason), error.status)
    except OSError as error:
        return "OSError", (error.errno, error.strerror, error.filename)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return "LaunchError", ("look into the container", b"", reason, 125)
    return "", tuple(value) if isinstance(value, tuple) else value
