# SPDX-License-Identifier: GPL-3.0-or-later
"""What unionfs.light has does what the standard library's modules of these names do."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
import threading
import types
from typing import Any, NamedTuple

import pytest

from unionfs import typed

light_contextlib: Any = importlib.import_module("unionfs.light.contextlib")
light_json: Any = importlib.import_module("unionfs.light.json")
light_threading: Any = importlib.import_module("unionfs.light.threading")

_BOTH = pytest.mark.parametrize("module", [contextlib, light_contextlib], ids=["real", "light"])
_THREADS = pytest.mark.parametrize("module", [threading, light_threading], ids=["real", "light"])


@_BOTH
def test_suppress(module: Any) -> None:
    def fail(error: Exception) -> None:
        raise error

    with module.suppress(OSError, KeyError):
        fail(FileNotFoundError())
    with pytest.raises(ArithmeticError), module.suppress(OSError):
        fail(ArithmeticError())


@_BOTH
def test_a_generator_around_a_block(module: Any) -> None:
    seen: list[object] = []

    @module.contextmanager  # type: ignore[untyped-decorator]
    def around(value: int) -> Any:
        try:
            yield value
        except KeyError:
            seen.append("swallowed")
        finally:
            seen.append("end")

    with around(3) as got:
        seen.append(got)

    def fail(error: Exception) -> None:
        raise error

    with around(4):
        fail(KeyError())
    error = ArithmeticError("through")
    with pytest.raises(ArithmeticError) as caught, around(5):
        fail(error)
    assert caught.value is error
    assert error.__context__ is None
    assert seen == [3, "end", "swallowed", "end", "end"]


@_BOTH
def test_a_generator_may_raise_something_else(module: Any) -> None:
    @module.contextmanager  # type: ignore[untyped-decorator]
    def around() -> Any:
        try:
            yield
        except KeyError as error:
            raise ArithmeticError from error

    with pytest.raises(ArithmeticError), around():
        raise KeyError


@_BOTH
def test_a_generator_stops_once(module: Any) -> None:
    @module.contextmanager  # type: ignore[untyped-decorator]
    def twice() -> Any:
        yield
        yield

    @module.contextmanager  # type: ignore[untyped-decorator]
    def never() -> Any:
        yield from ()

    with pytest.raises(RuntimeError, match="didn't stop"), twice():
        pass
    with pytest.raises(RuntimeError, match="didn't yield"), never():
        pass


@_BOTH
def test_what_a_stack_ends(module: Any) -> None:
    seen: list[object] = []

    def fail() -> None:
        seen.append("fails")
        raise ArithmeticError

    with pytest.raises(ArithmeticError), module.ExitStack() as ends:  # noqa: PT012
        ends.callback(seen.append, 1)
        ends.callback(fail)
        ends.enter_context(module.suppress(KeyError))
        ends.callback(seen.append, 2)
        raise KeyError
    assert seen == [2, "fails", 1]
    with module.ExitStack() as ends:
        ends.callback(seen.append, 3)
        kept = ends.pop_all()
    assert seen == [2, "fails", 1]
    kept.close()
    with pytest.raises(ArithmeticError), module.ExitStack() as ends:  # noqa: PT012
        ends.callback(seen.append, 4)
        raise ArithmeticError
    assert seen[3:] == [3, 4]


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        10**30,
        1.5,
        float("inf"),
        'é"\n\\',
        "",
        [],
        {},
        [1, [2, (3,)]],
        {"a": {"b": 1}},
    ],
)
def test_json_is_json(value: object, separators: tuple[str, str]) -> None:
    text = json.dumps(value, separators=separators)
    assert light_json.dumps(value, separators=separators) == text
    assert light_json.loads(f" \n{text}\t") == json.loads(text)
    assert light_json.loads(text.encode()) == json.loads(text)


def test_json_as_documents_have_it() -> None:
    value = {"b": "\u00e9\u4e00\U0001f600", "a": {"d": 1, "c": [None, True]}}
    how = {"separators": (",", ":"), "sort_keys": True, "ensure_ascii": False}
    assert light_json.dumps(value, **how) == json.dumps(value, **how)  # type: ignore[arg-type]
    for encoding in ("utf-8", "utf-16", "utf-32-be", "utf-8-sig"):
        assert light_json.loads(json.dumps(value, ensure_ascii=False).encode(encoding)) == value


@pytest.mark.parametrize("text", ["", "{", '{"a" 1}', "1 2", '"\n"', "[1,]", "nul", "[1] x"])
def test_json_says_what_is_wrong(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    with pytest.raises(json.JSONDecodeError) as found:
        light_json.loads(text)
    assert str(found.value) == str(expected.value)


def test_json_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError):
        light_json.dumps(object())


@_THREADS
def test_threads(module: types.ModuleType) -> None:
    began, end, seen = module.Event(), module.Event(), []

    def work() -> None:
        seen.append(module.get_ident())
        began.set()
        end.wait()

    thread = module.Thread(target=work, name="work", daemon=True)
    assert not thread.is_alive()
    thread.start()
    assert began.wait(10)
    assert began.wait(10)
    assert thread.is_alive()
    thread.join(0.001)
    assert thread.is_alive()
    assert not end.wait(0.001)
    end.set()
    thread.join()
    assert not thread.is_alive()
    assert seen != [module.get_ident()]


def test_named_tuples() -> None:
    class Real(NamedTuple):
        x: int
        y: int = 3

    class Ours(typed.NamedTuple):
        x: int
        y: int = 3

        def both(self) -> int:
            return self.x + self.y

    class Empty(typed.NamedTuple):
        pass

    assert tuple(Ours(1)) == tuple(Real(1)) == (1, 3)
    assert Ours(x=1, y=2).both() == 3
    assert repr(Ours(1)).endswith("Ours(x=1, y=3)")
    assert Ours(1)._replace(y=7)._asdict() == {"x": 1, "y": 7}
    assert Ours._make((4, 5)).y == 5
    assert Ours._fields == Real._fields
    assert Empty() == ()
    wrong: list[Any] = [((), {}), ((1, 2, 3), {}), ((1,), {"z": 2})]
    for values, named in wrong:
        with pytest.raises(TypeError):
            Ours(*values, **named)

    class Awkward(typed.NamedTuple):
        cls: int
        new: int = 2

    assert Awkward(cls=1) == Awkward(1, new=2) == (1, 2)
    with pytest.raises(ValueError, match="z"):
        Ours(1)._replace(z=1)  # type: ignore[call-arg]
    match Ours(8):
        case Ours(x, y):
            assert (x, y) == (8, 3)


def test_a_supervisor_loads_none_of_the_originals() -> None:
    """What they bring along is a quarter of its start."""
    program = (
        "import sys, launcher.starting, launcher.supervisor.beginning, unionfs;"
        "unionfs.Union, unionfs.serve; import unionfs.fuse.device;"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        check=True,
        capture_output=True,
        text=True,
    )
    heavy = {"contextlib", "json", "signal", "threading", "collections", "enum", "functools", "re"}
    assert not heavy & set(done.stdout.split())
