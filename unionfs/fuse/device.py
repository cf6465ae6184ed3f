# SPDX-License-Identifier: GPL-3.0-or-later
"""The native transport: a union served on /dev/fuse, in the kernel's own protocol.

`Device` is one session: what was negotiated, what is open, and the table that leads from an opcode
to its handler. `serve` is a whole life: mount, serve, take down. Who is served when is `loop`'s
affair, how to mount is `mounting`'s, how to end is `ending`'s, and what requests mean is in
`handlers`.
"""

from __future__ import annotations

import errno
import os
import sys

from unionfs.errors import UnionError
from unionfs.fuse import mounting, negotiation, replies, wire
from unionfs.fuse.appetite import Appetite
from unionfs.fuse.backing import Backings
from unionfs.fuse.ending import TakingDown, on_signals
from unionfs.fuse.failure import errno_of
from unionfs.fuse.handlers.attributes import Attributes
from unionfs.fuse.handlers.content import Content
from unionfs.fuse.handlers.files import Files
from unionfs.fuse.handlers.ioctls import Ioctls
from unionfs.fuse.handlers.listings import Listings
from unionfs.fuse.handlers.names import Names
from unionfs.fuse.handlers.xattrs import Xattrs
from unionfs.fuse.handles import Handle
from unionfs.fuse.loop import Loop
from unionfs.fuse.mountinfo import mounts
from unionfs.fuse.notify import Notifier
from unionfs.fuse.order import Orders
from unionfs.fuse.request import BODY, OPCODE, PID, UNIQUE, Answer, Handler, Head, Message
from unionfs.fuse.waiting import Waiting
from unionfs.fuse.wire import Opcode
from unionfs.fuse.workers import Workers
from unionfs.light import contextlib, signal
from unionfs.typed import TYPE_CHECKING, Callable, Final

if TYPE_CHECKING:
    from unionfs.config import SessionConfig
    from unionfs.node import Node
    from unionfs.union import Union

# Room for the largest request: a WRITE of MAX_WRITE bytes and its headers.
BUFFER_SIZE: Final = negotiation.MAX_WRITE + 4096
_NO_TERMS: Final = negotiation.Terms(0, 0, 0, 0, 0, 0)

_unpack: Final = wire.IN_HEADER.unpack_from
_readv: Final = os.readv
_write: Final = os.write


def _unserved(head: Head, buffer: memoryview) -> Answer:
    """A kind of request that is not served; the kernel falls back or does not ask again."""
    return errno.ENOSYS


class Parted:
    """An id that a node had before it got a new one, and the part of its lookup count.

    The kernel knows the file by several inodes then (see `Files`).
    """

    __slots__ = ("lookups", "node")

    def __init__(self, node: Node, lookups: int) -> None:
        self.node = node
        self.lookups = lookups


class Device:
    """One session on one descriptor. It is a `Channel` of the loop.

    fd        -- the session's descriptor, non-blocking; its owner closes it
    union     -- what is served
    terms     -- what was negotiated; nothing before INIT
    writable  -- whether changes are let through at all
    handles   -- open files by number
    backings  -- which of them the kernel reads and writes by itself
    orders    -- in which order directories are told
    appetite  -- whether their entries' attributes are told along
    waiting   -- requests that wait for a copy-up
    unsettled -- node ids whose attributes may change without the kernel's knowledge just now
    refused   -- process → node id whose open was last answered ESTALE to it
    disarmed  -- node id that root last took file capabilities from
    """

    def __init__(
        self,
        fd: int,
        union: Union,
        loop: Loop,
        *,
        stack_depth: int = 0,
        writable: bool = True,
        debug: bool = False,
        ready: Callable[[], None] | None = None,
    ) -> None:
        """Nothing is read yet. `ready` is called once, when the session has been negotiated.

        stack_depth -- see `negotiation.Wishes`
        """
        self.fd = fd
        self.union = union
        self.writable = writable
        self.terms = _NO_TERMS
        self.failure: UnionError | None = None
        self.over = False
        self.aborted = False
        self.handles: dict[int, Handle] = {}
        self.unsettled: set[int] = set()
        self.refused: dict[int, int] = {}
        self.disarmed = 0
        self.orders = Orders()
        self.appetite = Appetite()
        self.backings = Backings(fd, False)
        self.notifier = Notifier(fd)
        self.workers = Workers()
        self.waiting = Waiting(union, self.workers, loop.call, self._again, self._refuse)
        self._parted: dict[int, Parted] = {}
        self._working: dict[int, int] = {}
        self._loop = loop
        self._ready = ready
        self._debug = debug
        config = union.config
        self._wishes = negotiation.Wishes(stack_depth, config.acl and config.xattrs)
        self._handlers: list[Handler] = [_unserved] * wire.OPCODES
        self._handlers[Opcode.INIT] = self._init
        loop.add(self, BUFFER_SIZE)

    # -- receiving, handling, replying

    def receive(self, buffer: list[bytearray]) -> int:
        """Read one request; see `Channel.receive`."""
        while True:
            try:
                return _readv(self.fd, buffer)
            except BlockingIOError:
                return 0
            except OSError as error:
                number = error.errno
                if number == errno.ENOENT:  # aborted before it was read
                    continue
                # fuse_dev_do_read: ENODEV after an unmount, ECONNABORTED after an abort.
                self.aborted = number != errno.ENODEV
                return -1

    def handle(self, buffer: memoryview) -> Message | None:
        """Serve the request in the buffer; the reply, if one is due now."""
        head = _unpack(buffer)
        try:
            answer: Answer = self._handlers[head[1]](head, buffer)
        except OSError as error:
            return replies.error(head[2], error.errno or errno.EIO)
        except Exception as error:
            return self._failed(head, error)
        if isinstance(answer, int):
            return replies.error(head[2], answer)
        return answer

    def _failed(self, head: Head, error: Exception) -> Message | None:
        opcode = head[OPCODE]
        if opcode >= wire.OPCODES:
            return replies.error(head[UNIQUE], errno.ENOSYS)
        number = errno_of(error, wire.opcode_name(opcode))
        if opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
            return None
        return replies.error(head[UNIQUE], number)

    def reply(self, message: Message) -> None:
        try:
            _write(self.fd, message)
        except OSError as error:
            # ENOENT: the session was aborted meanwhile, so nobody waits.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                errno_of(RuntimeError(f"reply refused: {error}"), "reply")
                unique = wire.OUT_HEADER.unpack_from(message)[2]
                with contextlib.suppress(OSError):
                    os.write(self.fd, replies.error(unique, errno.EIO))

    def caller(self, buffer: memoryview) -> int:
        """The task that sent the request in the buffer."""
        caller: int = _unpack(buffer)[PID]
        return caller

    def ended(self) -> None:
        self.over = True

    # -- work elsewhere

    def work(self, head: Head, job: Callable[[], Answer]) -> None:
        """Have a worker find the answer and send it. `job` must not touch the union."""
        unique = head[UNIQUE]
        self._working[unique] = head[PID]

        def run() -> None:
            # An interrupt takes the request out as long as it has not begun (see _interrupt).
            if self._working.pop(unique, None) is not None:
                try:
                    answer = job()
                except BaseException as error:
                    answer = errno_of(error, wire.opcode_name(head[OPCODE]))
            else:
                answer = errno.EINTR
            self._send(head, answer)

        self.workers.submit(run)

    def _send(self, head: Head, answer: Answer) -> None:
        if answer is not None:
            self.reply(replies.error(head[UNIQUE], answer) if isinstance(answer, int) else answer)

    def _again(self, head: Head, buffer: memoryview) -> None:
        """Serve a request that was put off."""
        message = self.handle(buffer)
        if message is not None:
            self.reply(message)

    def _refuse(self, head: Head, number: int) -> None:
        self.reply(replies.error(head[UNIQUE], number))

    def _interrupt(self, head: Head, buffer: memoryview) -> None:
        """INTERRUPT: a request of a dying process may go if nobody has begun with it.

        Waits on a filesystem end for fatal signals only (signal(7)), but the kernel tells of every
        signal. No reply is due, and a request that is not known here has been answered already.
        """
        (unique,) = wire.INTERRUPT_IN.unpack_from(buffer, BODY)
        asker = self._working.get(unique) or self.waiting.asker(unique)
        if asker and is_dying(asker) and self._working.pop(unique, None) is None:
            self.waiting.interrupt(unique)

    # -- what the kernel knows

    def forget(self, number: int, count: int) -> None:
        """The kernel drops `count` references to a node, which need not be the last.

        Two lookups that race give one back while the file is open: what the node has then stays.
        """
        node = self.union.nodes.get(number)
        if node is None:
            return
        self.union.forget(node, count)
        if self._parted:
            self._forget_parted(node, number, count)
        if number not in self.union.nodes:
            if number in self.backings.active:
                self.backings.forget(number)
            self.orders.drop(number)

    def unsettle(self, number: int, known: bool) -> None:
        """From now on the attributes of a node may change without the kernel's knowledge.

        known -- the kernel may hold attributes that it took for lasting
        """
        self.unsettled.add(number)
        if known:
            self.notifier.attributes_changed(number)

    def part(self, number: int) -> None:
        """The node gets a new id; while the kernel knows the old one it has two inodes for the
        file, and neither hears of what is changed through the other."""
        node = self.union.nodes[number]
        self.unsettle(number, True)
        self._parted[number] = Parted(node, node.nlookup - self._lookups_of_former(node))
        self.union.renew(node)
        self.unsettled.add(node.id)

    def _lookups_of_former(self, node: Node) -> int:
        """How much of a node's lookup count belongs to ids that it had before."""
        return sum(former.lookups for former in self._parted.values() if former.node is node)

    def _forget_parted(self, node: Node, number: int, count: int) -> None:
        """A FORGET that may concern a node with several ids, each with its share of the count."""
        former = self._parted.get(number)
        if former is None:
            if node.nlookup <= self._lookups_of_former(node):
                self.backings.forget(number)
            return
        former.lookups -= count
        if former.lookups <= 0:
            del self._parted[number]
            self.backings.forget(number)
            self.unsettled.discard(number)
            self.settle(node.id)

    def settle(self, number: int) -> None:
        """What changed without the kernel's knowledge has come to rest."""
        node = self.union.nodes.get(number)
        if all(former.node is not node for former in self._parted.values()):
            self.unsettled.discard(number)
        self.notifier.attributes_changed(number)

    @property
    def unmasked(self) -> bool:
        """Whether modes come as the caller gave them, with the umask beside."""
        return self.terms.has(wire.DONT_MASK)

    # -- beginning and end

    def _init(self, head: Head, buffer: memoryview) -> Answer:
        """INIT: settle the terms; from here on every opcode has its handler."""
        offer = negotiation.read_offer(buffer)
        try:
            terms = negotiation.negotiate(offer, self._wishes)
        except negotiation.ProtocolError as error:
            self.failure = UnionError("serve", "/dev/fuse", str(error))
            self._loop.stop()
            return errno.EPROTO
        if terms is None:
            return negotiation.other_major(head[UNIQUE])
        self.terms = terms
        self.backings = Backings(self.fd, terms.stack_depth > 0)
        for theme in (Names, Attributes, Files, Content, Listings, Xattrs, Ioctls):
            for opcode, handler in theme(self).table().items():
                self._handlers[opcode] = handler
        self._handlers[Opcode.INIT] = _unserved
        self._handlers[Opcode.INTERRUPT] = self._interrupt
        self._handlers[Opcode.DESTROY] = lambda head, buffer: 0
        if self._debug:
            self._handlers = [_traced(handler) for handler in self._handlers]
        if self._ready is not None:
            self._loop.call(self._ready)
        return negotiation.accept(head[UNIQUE], terms)

    def close(self) -> None:
        """End the workers and close what is still open; after `Loop.run`. Not the descriptor."""
        self.waiting.close()
        self.workers.close()
        self._loop.finish()
        for handle in self.handles.values():
            self.union.release(handle.file)
        self.handles.clear()


def is_dying(task: int) -> bool:
    """Whether a fatal signal waits for a task: the kernel then marks SIGKILL (complete_signal)."""
    try:
        with open(f"/proc/{task}/status", "rb") as stream:
            text = stream.read()
    except OSError:
        return False
    pending = text.partition(b"SigPnd:")[2].split(None, 1)[0]
    return bool(int(pending, 16) & 1 << (signal.SIGKILL - 1))


def _traced(handler: Handler) -> Handler:
    def traced(head: Head, buffer: memoryview) -> Answer:
        name = wire.opcode_name(head[OPCODE])
        try:
            answer = handler(head, buffer)
        except OSError as error:
            print(f"{name} node {head[3]}: {error}", file=sys.stderr, flush=True)
            raise
        if isinstance(answer, int):
            outcome = errno.errorcode.get(answer, "done")
        else:
            outcome = "later" if answer is None else f"{len(answer)} bytes"
        print(f"{name} node {head[3]}: {outcome}", file=sys.stderr, flush=True)
        return answer

    return traced


def serve(union: Union, session: SessionConfig, ready: Callable[[], None]) -> None:
    """Mount the union and serve it until it is unmounted, or until SIGTERM, SIGINT or SIGHUP.

    `ready` is called once, when the mount answers. On a signal the mount is taken down: at once if
    nobody uses it, else detached after what was written through mappings has been fetched. The
    union stays open: closing it is the caller's affair. Raises UnionError where it cannot mount.
    """
    with contextlib.ExitStack() as ends:
        loop = Loop()
        ends.callback(loop.close)
        mount = mounting.mount(session)
        taking_down = TakingDown(mount, loop)
        ends.callback(taking_down.finish)
        ends.callback(mount.end)
        device = Device(
            mount.fd,
            union,
            loop,
            stack_depth=_stack_depth(union, session),
            writable=union.config.upper is not None
            and not (session.read_only or union.config.read_only),
            debug=session.debug,
            ready=ready,
        )
        ends.callback(device.close)
        with on_signals(taking_down, loop):
            loop.run()
        if device.failure is not None:
            raise device.failure


def _stack_depth(union: Union, session: SessionConfig) -> int:
    """How deep passthrough has to reach: 0 where it is not wanted or cannot be had.

    One level is enough for plain filesystems; files of a layer that is itself stacked need two.
    """
    if not session.passthrough or os.geteuid() != 0:
        return 0
    kinds = {mounted.device: mounted.fstype for mounted in mounts()}
    config = union.config
    for path in filter(None, (config.upper, *config.lower, *config.data)):
        device = os.stat(path).st_dev
        kind = kinds.get(f"{os.major(device)}:{os.minor(device)}", "")
        if kind in ("overlay", "ecryptfs") or kind.startswith("fuse"):
            return 2
    return 1
