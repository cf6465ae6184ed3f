# SPDX-License-Identifier: GPL-3.0-or-later
"""The choice of a transport: device where it can run, pyfuse3 elsewhere, a reason where neither."""

from __future__ import annotations

import pytest

from unionfs.config import SessionConfig
from unionfs.errors import UnionError
from unionfs.fuse import session
from unionfs.fuse.session import choose_transport

AUTO = SessionConfig(mountpoint=b"/m", debug=True)


def lacking(monkeypatch: pytest.MonkeyPatch, *transports: str) -> None:
    """As if these transports were not part of this installation."""
    known = dict(session._MODULES)
    for name in transports:
        known[name] = "unionfs.fuse.absent"
    monkeypatch.setattr(session, "_MODULES", known)


def test_device_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_transport(AUTO) == "device"
    assert capsys.readouterr().err == ""


def test_pyfuse3_else(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lacking(monkeypatch, "device")
    assert choose_transport(AUTO) == "pyfuse3"
    told = "lamina: not the device transport: the device transport is not installed\n"
    assert capsys.readouterr().err == told
    assert choose_transport(SessionConfig(mountpoint=b"/m")) == "pyfuse3"
    assert capsys.readouterr().err == ""


def test_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "device", "pyfuse3")
    with pytest.raises(UnionError) as caught:
        choose_transport(SessionConfig(mountpoint=b"/m"))
    assert str(caught.value) == (
        "cannot mount /m: the device transport is not installed;"
        " the pyfuse3 transport is not installed"
    )


@pytest.mark.parametrize("name", ["device", "pyfuse3"])
def test_the_one_asked_for(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked = SessionConfig(mountpoint=b"/m", transport=name)  # type: ignore[arg-type]
    assert choose_transport(asked) == name
    lacking(monkeypatch, name)
    with pytest.raises(UnionError, match=f"the {name} transport is not installed"):
        choose_transport(asked)
