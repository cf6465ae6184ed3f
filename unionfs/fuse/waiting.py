# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that wait for a copy-up, while every other request is served.

A change to a large lower file first copies it up, which can take long. The copy runs on a worker;
the request that asked for it, and every later one that needs the same copy, are put off and served
as if they came just now once the copy has been published.
"""

from __future__ import annotations

import errno

from unionfs.fuse.failure import errno_of
from unionfs.fuse.request import LENGTH, PID, UNIQUE, Head
from unionfs.node import Node
from unionfs.typed import TYPE_CHECKING, Callable, NamedTuple

if TYPE_CHECKING:
    from unionfs.copyup import Completion, CopyUp
    from unionfs.fuse.workers import Workers
    from unionfs.union import Union


class PutOff(NamedTuple):
    """A request kept for later: its header and its whole message."""

    head: Head
    message: bytes


class Waiting:
    """The copy-ups of one session that are under way, and who waits for each."""

    __slots__ = ("_again", "_call", "_closed", "_jobs", "_queues", "_refuse", "_union", "_workers")

    def __init__(
        self,
        union: Union,
        workers: Workers,
        call: Callable[[Callable[[], None]], None],
        again: Callable[[Head, memoryview], None],
        refuse: Callable[[Head, int], None],
    ) -> None:
        """`call` runs a function on the serving thread, `again` serves a request anew, `refuse`
        replies with an errno."""
        self._union = union
        self._workers = workers
        self._call = call
        self._again = again
        self._refuse = refuse
        self._queues: dict[Node, list[PutOff]] = {}
        self._jobs: set[CopyUp | Completion] = set()
        self._closed = False

    def put_off_metadata(self, node: Node, head: Head, buffer: memoryview) -> bool:
        """As `put_off`, for a change that leaves the content below where the union is so set."""
        if (node.data is None and node.is_upper) or node.is_dir:
            return False
        if node not in self._queues and self._union.content_stays(node):
            return False
        return self.put_off(node, None, head, buffer)

    def put_off(self, node: Node, size: int | None, head: Head, buffer: memoryview) -> bool:
        """Whether the request has to wait for a copy-up of `node`; if so, it is taken care of.

        size -- how much of the content is needed; None for all
        """
        if (node.data is None and node.is_upper) or node.is_dir:
            return False
        queue = self._queues.get(node)
        if queue is None:
            job = self._union.copy_up_job(node, size)
            if job is None:
                return False
            node.nlookup += 1  # it must stay the one node of its file until the copy stands for it
            queue = self._queues[node] = []
            self._jobs.add(job)
            self._workers.submit(lambda: self._copy(job))
        queue.append(PutOff(head, buffer[: head[LENGTH]].tobytes()))
        return True

    def asker(self, unique: int) -> int:
        """The process that waits with a request, 0 if it does not wait here."""
        for queue in self._queues.values():
            for head, _ in queue:
                if head[UNIQUE] == unique:
                    return head[PID]
        return 0

    def interrupt(self, unique: int) -> None:
        """Let a waiting request go with EINTR; the copy goes on."""
        for queue in self._queues.values():
            for index, (head, _) in enumerate(queue):
                if head[UNIQUE] == unique:
                    del queue[index]
                    self._refuse(head, errno.EINTR)
                    return

    def _copy(self, job: CopyUp | Completion) -> None:
        """On a worker."""
        failure = 0
        try:
            job.copy()
        except BaseException as error:
            failure = errno_of(error, "copy-up")
        self._call(lambda: self._publish(job, failure))

    def _publish(self, job: CopyUp | Completion, failure: int) -> None:
        """On the serving thread: put the copy in its place and serve who waited for it."""
        queue = self._queues.pop(job.node)
        self._jobs.discard(job)
        if failure == 0 and not self._closed:
            try:
                job.publish()
            except Exception as error:
                failure = errno_of(error, "copy-up")
        job.abandon()
        self._union.forget(job.node, 1)
        if self._closed:
            return
        if failure and queue:
            # The first asked for this copy, so it gets the error; the others try for themselves.
            self._refuse(queue.pop(0).head, failure)
        for head, message in queue:
            self._again(head, memoryview(message))

    def close(self) -> None:
        """Nobody waits any more: copies under way end at their next step, and are dropped."""
        self._closed = True
        for job in self._jobs:
            job.stop()
