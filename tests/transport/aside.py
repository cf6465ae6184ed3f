# SPDX-License-Identifier: GPL-3.0-or-later
"""`Aside`: a call that may block in the kernel, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.support.clock import scaled


class Aside:
    """A call on another thread, which may block in the kernel."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.failure: BaseException | None = None
        self._function = function
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as failure:
            self.failure = failure

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(scaled(20))
        assert self.done
        if self.failure is not None:
            raise self.failure
