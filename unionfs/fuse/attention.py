# SPDX-License-Identifier: GPL-3.0-or-later
"""How a serving thread waits for its next request: learned from how long requests take.

Most of a round trip is the time until a sleeping thread runs again, the caller's as well as the
server's, and that depends on which CPUs they are on. To wake an idle CPU takes long, on virtual
machines very long. So there are three manners of waiting, and which is best differs by machine,
load and caller: each is tried for a while, the best is kept, and all are tried again now and then.
"""

from __future__ import annotations

import os
from time import monotonic_ns

from unionfs.typed import Final, NamedTuple

SLEEP: Final = 0
"""Sleep at once; the scheduler chooses where to wake."""
SPIN: Final = 1
"""Stay awake for a moment after a reply: a caller that goes on at once finds an open ear."""
FOLLOW: Final = 2
"""Sleep, and stay on the CPU that the caller was on last: no other CPU has to be woken."""

# How long to stay awake after a reply. A client that goes on at once comes back within 20-80 µs.
SPIN_NS: Final = 100_000
LONGEST_NS: Final = 200_000
"""More than this between two requests is the caller's own affair, and counts as so much."""
PAUSE_NS: Final = 20_000_000
"""After so long without a request the caller may be another, and elsewhere."""
_CONFIDENCE: Final = 16
_LOAD_EVERY_NS: Final = 2_000_000


class Trial(NamedTuple):
    """How the manners are compared: so many requests in one, after some to get used to it; rounds
    of each. The two numbers of requests are never the same."""

    settle: int
    length: int
    rounds: int


# At first a guess will do, so that not half of a short piece of work is served in a bad manner.
_GUESS: Final = Trial(4, 12, 2)
_FULL: Final = Trial(8, 32, 3)
# Requests between two looks at where the caller is and whether the manner is still as good.
_LOOK: Final = 64
# Looks until all manners are tried again: after the guess, after the next trial, and at most, where
# the same one wins each time.
_AT_ONCE: Final = 8
_SOON: Final = 32
_LATE: Final = 512
# A manner must be better by this much to take the place of the present one.
_BETTER: Final = 0.95
# So many looks in a row at this many times what it took in the trial are a change.
_WORSE: Final = 2
_PATIENCE: Final = 4


class Spin:
    """Whether staying awake after a reply is worth it just now.

    Each request that came while the loop was awake, or would have if it had been, speaks for it;
    each spin in vain speaks twice against. It is never worth it where the CPUs have other work:
    the client could not run.
    """

    __slots__ = ("_busy", "_checked", "_cpus", "_load", "_score", "_slept")

    def __init__(self, load: int, cpus: int) -> None:
        self._load = load
        self._cpus = cpus
        self._score = _CONFIDENCE // 2
        self._busy = False
        self._checked = 0
        self._slept = 0

    def until(self, now: int) -> int:
        """Until when to stay awake, in monotonic ns; 0 to go to sleep at once."""
        if self._score <= 0 or self.crowded(now):
            self._slept = now
            return 0
        return now + SPIN_NS

    def crowded(self, now: int) -> bool:
        """Whether at least as many other tasks want to run as there are CPUs."""
        if now - self._checked > _LOAD_EVERY_NS:
            self._checked = now
            # proc_loadavg(5): the fourth field is runnable tasks, this one included.
            running, _, _ = os.pread(self._load, 128, 0).split(b" ", 4)[3].partition(b"/")
            self._busy = int(running) > self._cpus
        return self._busy

    def hit(self) -> None:
        """A request came while awake."""
        if self._score < _CONFIDENCE:
            self._score += 1

    def missed(self) -> None:
        """None came."""
        if self._score > 0:
            self._score -= 2

    def woken(self, now: int) -> None:
        """A request ended a sleep. Waking takes about as long as a spin lasts."""
        if self._slept and now - self._slept < 2 * SPIN_NS:
            self.hit()
        self._slept = 0


class Attention:
    """The manner of waiting of one serving thread that serves one session.

    manner -- how to wait just now
    window -- after how many requests to call `judge`
    """

    __slots__ = (
        "_allowed",
        "_cpu",
        "_expected",
        "_kept",
        "_looks",
        "_spin",
        "_taken",
        "_trial",
        "_trials",
        "_until_trial",
        "_worse",
        "manner",
        "window",
    )

    def __init__(self, spin: Spin) -> None:
        self.manner = SLEEP
        self._trial = _GUESS
        self.window = _GUESS.settle
        self._spin = spin
        self._allowed = os.sched_getaffinity(0)
        self._cpu = -1
        self._trials: list[int] = []
        self._taken: dict[int, int] = {}
        self._expected = 0
        self._kept = SLEEP
        self._looks = 0
        self._until_trial = _SOON
        self._worse = 0

    def judge(self, spent: int, caller: int) -> None:
        """`window` requests took `spent` ns in this manner; the last was asked by task `caller`."""
        if self._trials:
            self._judge_trial(spent)
        elif self._looks:
            self._looks -= 1
            self._look(spent)
        if not (self._trials or self._looks):
            self._begin_trials()
        if self.manner == FOLLOW:
            self._follow(caller)

    def resume(self, caller: int) -> None:
        """After a pause `caller` has sent a request; the window that was begun does not count."""
        if self.manner == FOLLOW:
            self._follow(caller)

    def _begin_trials(self) -> None:
        self._go_anywhere()
        self._allowed = os.sched_getaffinity(0)
        manners = [SLEEP, FOLLOW, SPIN]
        if len(self._allowed) < 2:
            manners = [SLEEP]
        elif self._spin.crowded(monotonic_ns()):
            manners.remove(SPIN)
        if len(manners) == 1:
            self._adopt(SLEEP, 0)
            return
        self._taken = dict.fromkeys(manners, 0)
        self._trials = manners * self._trial.rounds
        self._enter(self._trials[-1], self._trial.settle)

    def _judge_trial(self, spent: int) -> None:
        trial = self._trial
        if self.window == trial.settle:
            self.window = trial.length
            return
        self._taken[self._trials.pop()] += spent
        if self._trials:
            self._enter(self._trials[-1], trial.settle)
            return
        taken = self._taken
        best = min(taken, key=taken.__getitem__)
        if self._kept in taken and taken[best] > _BETTER * taken[self._kept]:
            best = self._kept
        if trial is _GUESS:
            self._trial, self._until_trial = _FULL, _AT_ONCE
        elif best == self._kept:
            self._until_trial = min(max(2 * self._until_trial, _SOON), _LATE)
        else:
            self._until_trial = _SOON
        self._kept = best
        self._adopt(best, taken[best] * _LOOK // (trial.length * trial.rounds))

    def _adopt(self, manner: int, expected: int) -> None:
        """Keep a manner for a while, in which a window is expected to take so many ns."""
        self._expected = expected
        self._worse = 0
        self._looks = self._until_trial
        self._enter(manner, _LOOK)

    def _look(self, spent: int) -> None:
        """Whether it is still as good as in its trial; if not for long, all are tried anew."""
        if self._expected and spent > _WORSE * self._expected:
            self._worse += 1
            if self._worse >= _PATIENCE:
                self._looks = 0
                self._until_trial = _SOON
        else:
            self._worse = 0

    def _enter(self, manner: int, window: int) -> None:
        self.window = window
        if manner != FOLLOW:
            self._go_anywhere()
        self.manner = manner

    def _follow(self, caller: int) -> None:
        cpu = cpu_of(caller)
        if cpu != self._cpu and cpu in self._allowed:
            os.sched_setaffinity(0, (cpu,))
            self._cpu = cpu

    def _go_anywhere(self) -> None:
        if self._cpu >= 0:
            os.sched_setaffinity(0, self._allowed)
            self._cpu = -1

    def rest(self) -> None:
        """Nothing is served any more by this thread: leave it as it was."""
        self._go_anywhere()


def cpu_of(task: int) -> int:
    """The CPU that a task ran on last; -1 if it cannot be told."""
    try:
        fd = os.open(b"/proc/%d/stat" % task, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        text = os.read(fd, 1024)
    except OSError:
        return -1
    finally:
        os.close(fd)
    # proc_pid_stat(5): the name in parentheses may hold anything; field 39 is the processor.
    fields = text[text.rindex(b")") + 2 :].split(None, 37)
    return int(fields[36]) if len(fields) > 36 else -1
