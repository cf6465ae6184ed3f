# SPDX-License-Identifier: GPL-3.0-or-later
"""`suppress`, `contextmanager` and `ExitStack`, as in the standard library's contextlib."""

from __future__ import annotations

TYPE_CHECKING = False

if not TYPE_CHECKING:
    __all__ = ["ExitStack", "contextmanager", "suppress"]

    class suppress:
        """Go on behind the block where one of these is raised in it."""

        __slots__ = ("_kinds",)

        def __init__(self, *kinds):
            self._kinds = kinds

        def __enter__(self):
            return None

        def __exit__(self, kind, error, trace):
            return kind is not None and issubclass(kind, self._kinds)

    class _Generated:
        """A block around which a generator runs: to its `yield`, and on from there."""

        __slots__ = ("_generator",)

        def __init__(self, generator):
            self._generator = generator

        def __enter__(self):
            try:
                return next(self._generator)
            except StopIteration:
                raise RuntimeError("generator didn't yield") from None

        def __exit__(self, kind, error, trace):
            generator = self._generator
            if kind is None:
                for _ in generator:
                    raise RuntimeError("generator didn't stop")
                return False
            try:
                generator.throw(error)
            except StopIteration as end:
                return end is not error
            except BaseException as raised:
                # What passed through is raised by the block itself, with its own trace.
                if raised is error or (
                    isinstance(error, StopIteration) and raised.__cause__ is error
                ):
                    error.__traceback__ = trace
                    return False
                raise
            raise RuntimeError("generator didn't stop after throw()")

    def contextmanager(function):
        """Make a `with` of a generator that yields once."""

        def manager(*values, **named):
            return _Generated(function(*values, **named))

        manager.__name__ = function.__name__
        manager.__doc__ = function.__doc__
        return manager

    class ExitStack:
        """Calls that are made at the end of a block, the last one first."""

        __slots__ = ("_ends",)

        def __init__(self):
            self._ends = []

        def callback(self, function, /, *values, **named):
            def end(kind, error, trace):
                function(*values, **named)
                return False

            self._ends.append(end)
            return function

        def enter_context(self, manager):
            value = manager.__enter__()
            self._ends.append(manager.__exit__)
            return value

        def pop_all(self):
            moved = ExitStack()
            moved._ends, self._ends = self._ends, []
            return moved

        def close(self):
            self.__exit__(None, None, None)

        def __enter__(self):
            return self

        def __exit__(self, kind, error, trace):
            met = error
            while self._ends:
                end = self._ends.pop()
                try:
                    if end(type(met) if met is not None else None, met, trace):
                        met = None
                except BaseException as raised:
                    if raised.__context__ is None:
                        raised.__context__ = met
                    met = raised
                trace = met.__traceback__ if met is not None else None
            if met is not None and met is not error:
                raise met
            return error is not None and met is None
