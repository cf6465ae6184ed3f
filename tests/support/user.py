# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a piece of a test as somebody else, in a forked child."""

from __future__ import annotations

import os
import pickle
import select
import signal
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.support.clock import scaled

T = TypeVar("T")


def in_child(function: Callable[[], T], limit: float = 60.0) -> T:
    """Run `function` in a forked child and give back what it returned or raised.

    After `limit` seconds (scaled) the child and its children are killed, which works even where
    they wait for an answer of a filesystem, and AssertionError says where the child was. Of two
    such calls, one in the other, the outer should have the larger limit.

    OSError comes back with its errno, AssertionError with its text; what the child changes in
    itself (user, umask, root, limits, working directory) ends with it.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            os.setpgid(0, 0)
            answer: tuple[str, Any]
            try:
                answer = ("value", function())
            except OSError as error:
                answer = ("errno", (error.errno, error.strerror, error.filename))
            except BaseException:
                answer = ("failure", traceback.format_exc())
            with os.fdopen(writer, "wb") as stream:
                pickle.dump(answer, stream)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        readable, _, _ = select.select([stream], [], [], scaled(limit))
        if not readable:
            where = Path(f"/proc/{pid}/stack").read_text()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(
                f"the child did not end within {scaled(limit):g} s; it was in\n{where}"
            )
        data = stream.read()
    os.waitpid(pid, 0)
    if not data:
        raise AssertionError("the child ended without an answer")
    kind, value = pickle.loads(data)
    if kind == "errno":
        raise OSError(*value)
    if kind == "failure":
        raise AssertionError(f"in the child:\n{value}")
    result: T = value
    return result


def as_user(
    uid: int, function: Callable[[], T], gid: int | None = None, groups: Sequence[int] = ()
) -> T:
    """Run `function` as uid, gid (the same number by default) and supplementary groups."""

    def become() -> T:
        os.setgroups(list(groups))
        os.setresgid(*[uid if gid is None else gid] * 3)
        os.setresuid(uid, uid, uid)
        return function()

    return in_child(become)
