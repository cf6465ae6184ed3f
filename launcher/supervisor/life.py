# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervisor's life: one container from its start to its end, and again where it restarts.

Main thread only, but for the union, which `serving` serves on another. What clients ask for is read
in `requests`; the container's further processes are in `execs`.
"""

from __future__ import annotations

import _socket
import gc
import os
import struct
import sys
import time

from launcher import events, runtime, start
from launcher import record as records
from launcher.cgroup.group import Group
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.record import Record
from launcher.supervisor import frames, hostmounts, launching, restart, undertaker
from launcher.supervisor.log import Log
from launcher.supervisor.loop import READ, Loop, Timer
from launcher.supervisor.peers import Peer
from launcher.supervisor.serving import Serving
from launcher.supervisor.streams import Streams
from launcher.sys import process
from launcher.typed import Any, Callable, Final
from unionfs.light import contextlib, json, signal

__all__ = ["Life"]

# After the container's end, how long somebody else may keep its output open (seconds).
_LAST_OUTPUT: Final = 2.0
# How long a client may take to enter the end of a run for the supervisor (seconds).
_OWNERS_PATIENCE: Final = 5.0
_BACKLOG: Final = 64


class Life:
    """The supervisor of one container.

    owner    -- the client that started it, as long as it is there
    peers    -- all clients
    state    -- as in `runtime.Running`; "" before there is a container
    started  -- its first process, while there is one
    stopping -- somebody asked for its end
    leaving  -- it was the machine that asked, at its own end
    again    -- the client that asked for a restart
    waiters  -- clients to be told of the end
    """

    def __init__(self, owner: _socket.socket, *, rootless: bool) -> None:
        self.loop = Loop()
        self.rootless = rootless
        self.peers: list[Peer] = []
        self.paths = Paths(b"", b"")
        self.record: Record
        self.state = ""
        self.started: start.Started | None = None
        self.stopping = False
        self.leaving = False
        self.again: Peer | None = None
        self.waiters: list[Peer] = []
        self.holders: list[Peer] = []
        self.health = ""
        self.attempts = restart.Attempts()
        self.group: Group | None = None
        self.merged = b""
        self.on_end: list[Callable[[], None]] = []
        self._timers: dict[str, Timer] = {}
        self._serving: Serving | None = None
        self._undertaker: undertaker.Undertaker | None = None
        self._beginning: start.Beginning | None = None
        self._lock = -1
        self._listening: _socket.socket | None = None
        self._log: Log | None = None
        self._streams = Streams(self.loop, self.peers, self._output_ended)
        self._begun = 0
        self._code: int | None = None
        self._over = False
        self._done = False
        self._ended = 0
        self._oom = False
        self._error = ""
        self.owner: Peer | None = self._meet(owner)

    def run(self) -> None:
        """Live. Returns when there is nothing left of the container's run, and nobody to tell.

        SIGTERM, as all processes are sent when the machine is shut down, stops the container; that
        does not count as stopped by hand (`--restart unless-stopped`).
        """
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

        def asked() -> None:
            os.read(reader, 1)
            if self.state in ("running", "paused", "restarting"):
                self.leaving = not self.stopping
                self.stop(self.record.stop_timeout)

        self.loop.watch(reader, READ, asked)
        signal.signal(signal.SIGTERM, lambda *_: os.write(writer, b"t"))
        self.loop.run(lambda: self._done and not self.peers)

    # -- clients

    def _meet(self, socket: _socket.socket) -> Peer:
        peer = Peer(socket, self.loop, self._on_frame, self._on_gone, self._on_drained)
        self.peers.append(peer)
        return peer

    def _accept(self) -> None:
        assert self._listening is not None
        with contextlib.suppress(OSError):
            fd, _ = self._listening._accept()  # type: ignore[attr-defined]
            os.set_inheritable(fd, False)
            self._meet(_socket.socket(fileno=fd))

    def _on_frame(self, peer: Peer, kind: int, content: bytes) -> None:
        if kind == frames.REQUEST:
            fields: dict[str, Any] = json.loads(content)
            try:
                self._on_request(peer, fields)
            except LaunchError as error:
                self.refuse(peer, error)
        elif kind == frames.STDIN and peer.feeds:
            self._streams.feed(peer, content)
        elif kind == frames.STDIN_END and peer.feeds:
            self._streams.end_input()
        elif kind == frames.SIGNAL:
            self.signal(content[0])
        elif kind == frames.RESIZE:
            rows, columns = struct.unpack("!HH", content)
            if self._streams.resize(rows, columns) and self.started is not None:
                self.note("resize", height=str(rows), width=str(columns))

    def _on_request(self, peer: Peer, fields: dict[str, Any]) -> None:
        verb = fields["verb"]
        if peer is self.owner and verb in ("prepare", "mapped", "go", "written", "removed"):
            {
                "prepare": self._prepare,
                "go": self._go,
                "written": self._written,
                "removed": self._removed,
            }[verb](fields)
            return
        from launcher.supervisor import requests

        requests.answer(self, peer, fields)

    def _on_gone(self, peer: Peer) -> None:
        self.peers.remove(peer)
        if peer in self.waiters:
            self.waiters.remove(peer)
        if peer in self.holders:
            self._let_go(peer)
        if self.again is peer:
            self.again = None
        if peer.feeds:
            self._streams.end_input()
        self._on_drained(peer)
        if peer.streams and self.started is not None:
            self.note("detach")
        if peer is self.owner:
            self.owner = None
            if self._over:
                self._bequeath()
            elif self.state in ("", "starting"):
                self._abort(None)

    def _on_drained(self, peer: Peer) -> None:
        self._streams.go_on()

    def reply(self, peer: Peer, fields: dict[str, Any]) -> None:
        peer.send(frames.message(frames.REPLY, fields))

    def refuse(self, peer: Peer, error: LaunchError) -> None:
        """Tell a client that what it asked for could not be done."""
        thing = os.fsdecode(error.thing)
        self.reply(peer, {"error": [error.what, thing, str(error.reason), error.status]})

    def attach(self, peer: Peer, streams: frozenset[int], *, feeds: bool) -> None:
        """From now on a client gets the container's output, and may give it input."""
        peer.streams = streams
        peer.feeds = feeds and self.record.interactive

    # -- the start

    def _prepare(self, fields: dict[str, Any]) -> None:
        """All that can be done before the container's program is let go."""
        owner = self.owner
        assert owner is not None
        self.paths = Paths(os.fsencode(fields["root"]), os.fsencode(fields["run"]))
        self.record = records.decode(fields["record"])
        self._streams.size = tuple(fields["size"])
        try:
            self._take_charge()
            self._begin(once=bool(fields["stdin"]))
        except LaunchError as error:
            self._abort(error)
            return
        except OSError as error:
            self._abort(_failure(error))
            return
        self.attach(owner, frozenset(fields["streams"]), feeds=fields["stdin"])
        self.reply(owner, {"ready": True})

    def _take_charge(self) -> None:
        """Become the container's supervisor, with everything that lasts over its restarts."""
        paths, record = self.paths, self.record
        remains = os.path.isdir(paths.runtime(record.id))
        self._lock = runtime.claim(paths, record.id)
        if remains:
            undertaker.remove_cgroup(record.id)
        self.state = "starting"
        self._report()
        directory = paths.container(record.id)
        _log_errors(directory + b"/supervisor.log")
        binds = [each.source for each in record.mounts if each.kind == "bind"]
        binds += [each.source for each in record.devices]
        sources = [os.path.realpath(os.fsencode(each)) for each in binds]
        hostmounts.let_go((directory, paths.run, *record.layers, *sources))
        self._serving = Serving(paths, record, rootless=self.rootless)
        self.merged = self._serving.merged
        self._undertaker = undertaker.Undertaker(paths, record.id)
        self._log = Log(directory + b"/log", record.log)
        self._listen()

    def _listen(self) -> None:
        directory = os.open(self.paths.runtime(self.record.id), os.O_PATH | os.O_CLOEXEC)
        path = b"/proc/self/fd/%d/control" % directory  # a socket's own path may be 107 bytes long
        listening = _socket.socket(
            _socket.AF_UNIX,
            _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK,
        )
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            listening.bind(path)
            os.chmod(path, 0o600)
        finally:
            os.close(directory)
        listening.listen(_BACKLOG)
        self._listening = listening
        self.loop.watch(listening.fileno(), READ, self._accept)

    def _begin(self, *, once: bool) -> None:
        """Make the container's first process, in its cgroup and namespaces, and let it wait."""
        record = self.record
        assert self._serving is not None
        assert self._log is not None
        self.group = Group.create(record.id, launching.resources(record))
        self._serving.wait()
        streams = self._streams
        theirs = streams.make(tty=record.tty, interactive=record.interactive, once=once)
        try:
            launch = launching.launch(
                self.paths,
                record,
                self.merged,
                (theirs[0], theirs[1], theirs[2]),
                theirs[3] if record.tty else -1,
                streams.size,
            )
            self._beginning = start.begin(launch, self.group)
        except BaseException:
            streams.give_up()
            raise
        finally:
            for fd in set(theirs):
                os.close(fd)
        streams.connect(self._log)

    def _go(self, fields: dict[str, Any]) -> None:
        owner = self.owner
        assert owner is not None
        self._begun = int(fields["when"])
        try:
            warnings = self._run()
        except LaunchError as error:
            self._abort(error)
            return
        self.reply(owner, {"started": self._pid(), "warnings": warnings})

    def _run(self) -> list[str]:
        """Let the first process go; what it had to do without."""
        assert self._beginning is not None
        assert self.group is not None
        with self._beginning as beginning:
            self._beginning = None
            started = beginning.go()
        self.started = started
        assert self._log is not None
        self._streams.connect_terminal(self._log)
        self.loop.watch(started.pidfd, READ, self._exited)
        self._code = None
        self.stopping = False
        self.set_state("running")
        self._write_pid_file()
        process.give_back_memory()
        gc.freeze()
        gc.enable()
        self.note("start")
        if self.record.health is not None:
            from launcher.supervisor import health

            health.begin(self)
        missing = [
            f"limit not set, this machine has no means for it: {each}"
            for each in self.group.missing
        ]
        return missing + list(started.warnings)

    def _write_pid_file(self) -> None:
        path = self.record.pid_file
        if path:
            with contextlib.suppress(OSError), open(path, "w") as file:
                file.write(f"{self._pid()}")

    def _pid(self) -> int:
        return self.started.pid if self.started is not None else 0

    def set_state(self, state: str) -> None:
        self.state = state
        self._report()

    def _report(self) -> None:
        runtime.report(
            self.paths,
            self.record.id,
            runtime.Running(
                self.state,
                self._pid(),
                os.getpid(),
                self._begun,
                self.attempts.number,
                self.health,
            ),
        )

    def _abort(self, error: LaunchError | None) -> None:
        """The container does not come about: take back what there is of it."""
        if self._beginning is not None:
            self._beginning.__exit__(None, None, None)
            self._beginning = None
        self._streams.close_outputs()
        self._tear_down()
        if self.owner is not None and error is not None:
            self.refuse(self.owner, error)
        elif self.state and self.record.auto_remove:
            from launcher.supervisor import ending

            ending.remove(self.paths, self.record.id)
        self._release()

    # -- while it runs

    def signal(self, number: int) -> None:
        """Send a signal to the container's first process."""
        if self.started is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.started.pidfd, number)

    def stop(self, timeout: float, number: int | None = None) -> None:
        """Ask the container to end, by a signal or its own, and kill it after so many seconds
        (under 0: never).
        """
        self.stopping = True
        if self.state == "restarting":
            self._cancel("restart")
            self._finish()
            return
        if timeout != 0:
            self.signal(number or self.record.stop_signal)
            self.note("kill", signal=str(int(number or self.record.stop_signal)))
        if self.state == "paused":
            self.thaw()
        if timeout == 0:
            self._kill_at_last()
        elif timeout > 0 and "kill" not in self._timers:
            self.after("kill", timeout, self._kill_at_last)

    def _kill_at_last(self) -> None:
        self.kill()
        self.note("kill", signal=str(int(signal.SIGKILL)))

    def kill(self) -> None:
        """End the container's processes at once."""
        self.signal(signal.SIGKILL)
        if self.state == "paused":
            self.thaw()
        if self.group is not None and not self._has_own_pids():
            self.group.kill()

    def restart_now(self) -> None:
        """Do not wait any longer before the next attempt."""
        self._cancel("restart")
        self._once_more()

    def note(self, action: str, **attributes: str) -> None:
        """Write down what happens to the container, for `lamina events`."""
        record = self.record
        described = {"image": record.image, "name": record.name, **dict(record.labels)}
        events.note(self.paths, "container", action, record.id, described | attributes)

    def hold(self, peer: Peer) -> None:
        """Have all processes stand still for as long as a client is there; the state stays."""
        assert self.group is not None
        if self.state != "paused" and not self.holders:
            self.group.freeze()
        self.holders.append(peer)

    def _let_go(self, peer: Peer) -> None:
        self.holders.remove(peer)
        if not self.holders and self.state != "paused" and self.group is not None:
            with contextlib.suppress(LaunchError, OSError):  # what has ended is not frozen
                self.group.thaw()

    def thaw(self) -> None:
        assert self.group is not None
        self.group.thaw()
        self.set_state("running")

    def _has_own_pids(self) -> bool:
        return self.record.pid == ""

    def after(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        """Do something later, unless the run ends before; in place of the last of this name."""
        self._cancel(name)

        def act() -> None:
            del self._timers[name]
            action()

        self._timers[name] = self.loop.after(seconds, act)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    # -- the end of a run

    def _exited(self) -> None:
        assert self.started is not None
        assert self.group is not None
        pidfd = self.started.pidfd
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        if found is None:
            return
        self.loop.forget(pidfd)
        os.close(pidfd)
        self.started = None
        killed = found.si_code != os.CLD_EXITED
        self._code = found.si_status + (128 if killed else 0)
        self._ended = time.time_ns()
        self._oom = self.group.oom_kills() > 0
        for name in list(self._timers):
            self._cancel(name)
        if self._oom:
            self.note("oom")
        self.note("die", exitCode=str(self._code))
        for action in self.on_end:
            action()
        self.on_end.clear()
        if not self._has_own_pids():
            # What it left in a namespace that goes on.
            self.group.kill()
        self._streams.drain()
        if not self._streams.ended:
            self.after("output", _LAST_OUTPUT, self._streams.cut)
        self._output_ended()

    def _output_ended(self) -> None:
        if self._code is not None and self._streams.ended:
            self._cancel("output")
            # Not from within the reading of the last one.
            self.after("finish", 0, self._run_ended)

    def _run_ended(self) -> None:
        """The container has ended and its output is complete: once more, or that was it."""
        self._streams.close()
        assert self._code is not None
        assert self._log is not None
        self._log.flush()
        self.health = ""
        if self.again is not None:
            self._once_more()
            return
        lasted = (self._ended - self._begun) / 1e9
        following = restart.again(
            self.record.restart, self.attempts, self._code, lasted, stopped=self.stopping
        )
        if following is None:
            self._finish()
            return
        self.attempts = following
        self._tell_exit()
        self._note(restarting=True)
        self.set_state("restarting")
        self.after("restart", following.pause, self._once_more)

    def _once_more(self) -> None:
        """Start the container's program again, on the same union."""
        asked, self.again = self.again, None
        try:
            if self.group is not None:
                self.group.remove()
            self.record = records.load(self.paths, self.record.id)
            self._begun = time.time_ns()
            self._begin(once=False)
            self._enter_start()
            self._run()
        except LaunchError as error:
            self._fail(error)
            if asked is not None:
                self.refuse(asked, error)
            return
        if asked is not None:
            self.note("restart")
            self.reply(asked, {"started": self._pid()})

    def _enter_start(self) -> None:
        from launcher.state import State

        with State(self.paths) as state:
            state.started(self.record.id, self._begun, self.attempts.number)

    def _fail(self, error: LaunchError) -> None:
        """A further start has failed: the container stays ended."""
        self._code = error.status
        self._ended = time.time_ns()
        self._oom = False
        self._error = str(error)
        self.stopping = False
        self._finish()

    def _tell_exit(self) -> None:
        """Tell who is attached that the run has ended; the connection ends with it."""
        frame = frames.message(frames.EXIT, {"code": self._code})
        for peer in list(self.peers):
            if peer.streams or peer is self.owner:
                peer.send(frame)
                if peer is self.owner:
                    self.owner = None
                peer.finish()

    def _finish(self) -> None:
        """The container stays ended: take down what is left, have it entered, and go."""
        self._over = True
        self.on_end.clear()
        assert self._code is not None
        owner = self.owner
        removing = self.record.auto_remove and self.again is None
        # An ordinary user's client cannot remove files of subordinate ids.
        delegated = owner is not None and owner.idle and not (removing and self.rootless)
        fields = {
            "code": self._code,
            "when": self._ended,
            "oom": self._oom,
            "stopped": self._by_hand(),
            "error": self._error,
            "removing": removing,
            "write": delegated,
        }
        for peer in list(self.peers):
            if peer.streams or peer is owner:
                peer.send(frames.message(frames.EXIT, fields))
        self._tear_down()
        if delegated:
            self.after("owner", _OWNERS_PATIENCE, self._bequeath)
            if self.owner is not None:
                self.reply(self.owner, {"down": True})
            return
        self._bequeath()

    def _bequeath(self) -> None:
        """Enter the end of the run, which no client does."""
        if self._done:
            return
        self._cancel("owner")
        self._note(restarting=False)
        self._release()

    def _note(self, *, restarting: bool) -> None:
        from launcher.supervisor import ending

        assert self._code is not None
        id = self.record.id
        removing = self.record.auto_remove and not restarting
        end = ending.End(self._ended, self._code, self._oom, self._by_hand(), self._error)
        ending.note(self.paths, id, end, removing=removing)
        if removing:
            ending.remove(self.paths, id)

    def _by_hand(self) -> bool:
        return self.stopping and not self.leaving

    def _written(self, fields: dict[str, Any]) -> None:
        """The owner has entered the end of the run, and removed the container where it had to."""
        self._cancel("owner")
        if not self._done:
            self._release()

    def _removed(self, fields: dict[str, Any]) -> None:
        self._written(fields)

    def _tear_down(self) -> None:
        """Everything but the lock and the clients."""
        for name in list(self._timers):
            self._cancel(name)
        if self.group is not None:
            self.group.remove()
            self.group = None
        if self._serving is not None:
            self._serving.end()
            self._serving = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _release(self) -> None:
        """The container is nobody's any more."""
        self._done = True
        if self._listening is not None:
            self.loop.forget(self._listening.fileno())
            self._listening.close()
            self._listening = None
        if self._lock >= 0:
            runtime.clear(self.paths, self.record.id)
            os.close(self._lock)
            self._lock = -1
        if self._undertaker is not None:
            self._undertaker.dismiss()
            self._undertaker = None
        for peer in self.waiters:
            self.reply(peer, {"code": self._code, "error": self._error})
        for peer in list(self.peers):
            peer.finish()


def _failure(error: OSError) -> LaunchError:
    return LaunchError("start container", os.fsencode(error.filename or b""), error)


def _log_errors(path: bytes) -> None:
    """What nobody expected is written down beside the container's log."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        fd = os.open(path, flags, 0o600)
        os.dup2(fd, 2)
        os.close(fd)
    sys.stderr.flush()
