# SPDX-License-Identifier: GPL-3.0-or-later
"""An ordinary user's containers: commit, diff, cp and squash, whoever the files belong to."""

from __future__ import annotations

from pathlib import Path

from tests.launcher.command import Lamina
from tests.launcher.life.test_rootless import as_ordinary
from tests.support.clock import wait_until


def test_files_of_subordinate_ids(tmp_path: Path) -> None:
    def work(lamina: Lamina) -> None:
        text = (
            "mkdir -m 700 /theirs; echo x > /theirs/file; chown -R 5:6 /theirs; mv /var /moved;"
            " touch /done; exec sleep 1000"
        )
        id = lamina.start("busybox", "sh", "-c", text)
        wait_until(lambda: "/done" in lamina("diff", id).out, "the changes to be made")
        host = lamina.root.parent / "host"
        host.write_text("host\n")
        lamina("cp", str(host), f"{id}:/theirs/mine")
        assert lamina("exec", id, "stat", "-c", "%u", "/theirs/mine").out == "0\n"
        lamina("commit", id, "made")
        lamina("stop", "-t", "0", id)
        assert "A /theirs/file\n" in lamina("diff", id).out
        lamina("cp", f"{id}:/theirs/file", str(host))
        assert host.read_text() == "x\n"
        lamina("cp", str(host), f"{id}:/moved/back")
        show = "ls -ln /theirs; ls -d /var /moved"
        lines = lamina.call("run", "--rm", "made", "sh", "-c", show).lines
        assert [line.split()[2:4] for line in lines if "file" in line] == [["5", "6"]]
        assert "/moved" in lines
        assert "/var" not in lines
        lamina("squash", "made", "flat")
        assert lamina.call("run", "--rm", "flat", "sh", "-c", show).lines[-1] == "/moved"

    as_ordinary(tmp_path, work, granted=True)
