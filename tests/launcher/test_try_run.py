# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina try` and what follows it, as a person types them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.launcher import box
from tests.launcher.trials import snapshot
from tests.support.clock import scaled, wait_until
from tests.support.daemon import environment
from tests.support.layers import Layers

LAMINA = [sys.executable, "-c", "import sys; from launcher.cli import main; sys.exit(main())"]


class Desk:
    """A fake root with busybox in it, a store, and `lamina` on them."""

    def __init__(self, top: Path, root: Path) -> None:
        self.root = root
        self.store = top / "store"

    def environment(self) -> dict[str, str]:
        return environment() | {"LAMINA_ROOT": str(self.store), "NO_COLOR": "1", "PATH": "/bin"}

    def lamina(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LAMINA, *words],
            env=self.environment(), cwd=cwd, timeout=scaled(120), check=False,
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def attempt(self, *words: str) -> subprocess.CompletedProcess[str]:
        *flags, script = words
        return self.lamina("try", "--base", str(self.root), *flags, "sh", "-c", script)

    def tries(self) -> list[str]:
        return self.lamina("tries", "-q").stdout.split()


@pytest.fixture
def desk(tmp_path: Path, fresh_root: Path) -> Desk:
    return Desk(tmp_path, fresh_root)


def test_nothing_changes_before_apply_and_all_of_it_after(desk: Desk) -> None:
    before = snapshot(desk.root, inodes=True)
    done = desk.attempt("--keep", "echo 'eve:x:5:5:::' >> /etc/passwd; rm -r /home; exit 3")
    assert done.returncode == 3
    assert snapshot(desk.root, inodes=True) == before
    assert "~ passwd" in done.stderr
    assert "- /home/" in done.stderr
    (name,) = desk.tries()
    shown = desk.lamina("tries", "--diff", name)
    assert "+eve:x:5:5:::" in shown.stdout.splitlines()
    assert desk.lamina("apply", name, "/etc").stdout.startswith("applied 1 of 1 changes")
    assert (desk.root / "etc/passwd").read_text().endswith("eve:x:5:5:::\n")
    assert (desk.root / "home").exists()
    assert desk.lamina("apply", name).returncode == 0
    assert not (desk.root / "home").exists()
    for _ in range(2):
        assert desk.lamina("apply", "--undo", name).returncode == 0
    assert snapshot(desk.root, inodes=True) == before
    assert desk.lamina("discard", name[:5]).stdout == name + "\n"
    assert desk.tries() == []
    assert os.listdir(desk.store / "tries") == []


def test_tries_and_their_changes_for_programs(desk: Desk) -> None:
    desk.attempt("--keep", "echo x > /new; chmod 600 /etc/passwd")
    (name,) = desk.tries()
    told = json.loads(desk.lamina("tries", "--format", "json").stdout)
    assert (told["ID"], told["State"], told["Changes"]) == (name, "kept", "2")
    line = desk.lamina("tries", "--format", "{{.ID}} {{.Command}}").stdout
    assert line == f"{name} sh -c echo x > /new; chmod 600 /etc/passwd\n"
    lines = desk.lamina("tries", "--format", "json", name).stdout.splitlines()
    changes = {each["Path"]: each for each in map(json.loads, lines)}
    assert set(changes) == {"/new", "/etc/passwd"}
    assert changes["/new"]["Kind"] == "A"
    assert (changes["/new"]["Size"], changes["/new"]["Applied"]) == (2, False)
    assert changes["/etc/passwd"]["What"] == "mode"


def test_yes_applies_and_no_forgets(desk: Desk) -> None:
    assert desk.attempt("--yes", "echo x > /f").returncode == 0
    assert (desk.root / "f").read_text() == "x\n"
    assert desk.attempt("--no", "rm /f").returncode == 0
    assert (desk.root / "f").exists()
    assert len(desk.tries()) == 1  # that of the first can be undone
    assert desk.attempt("true").stderr == "lamina: nothing was changed\n"
    assert len(desk.tries()) == 1


def test_conflicts_refuse_all_skip_some_or_are_overruled(desk: Desk) -> None:
    desk.attempt("--keep", "echo x >> /etc/group; mkdir /d; echo x > /d/f; echo x > /g")
    (name,) = desk.tries()
    (desk.root / "etc/group").write_text("host\n")
    refused = desk.lamina("apply", name)
    assert refused.returncode == 1
    assert refused.stderr == (
        "lamina: cannot apply /etc/group: it was changed after the try began\n"
        "lamina: nothing was written (--skip leaves these out)\n"
    )
    assert not (desk.root / "g").exists()
    assert desk.lamina("apply", "--skip", name).returncode == 1
    assert (desk.root / "d/f").exists()
    assert (desk.root / "etc/group").read_text() == "host\n"
    assert desk.lamina("apply", "--force", name).returncode == 0
    assert (desk.root / "etc/group").read_text() != "host\n"
    assert desk.lamina("apply", "--undo", name).returncode == 0
    assert (desk.root / "etc/group").read_text() == "host\n"
    (desk.root / "g").write_text("host\n")
    undone = desk.lamina("apply", "--undo", name)
    assert undone.returncode == 1
    assert f"cannot put back {desk.root}/g: it was changed after the apply\n" in undone.stderr
    assert (desk.root / "d/f").exists()


def test_the_command_is_the_callers_and_alone(desk: Desk) -> None:
    script = """
        id -u; pwd; echo $MARK; umask; echo $$; ls /sys/class/net
        ls /dev/null; mknod /n c 1 3; cat /n 2>&1; mount -t tmpfs x /tmp 2>&1 || echo no mount
        kill -9 $$
    """
    inside = desk.root / "home/alice"
    done = subprocess.run(
        [*LAMINA, "try", "--base", str(desk.root), "--no", "sh", "-c", script],
        env=desk.environment() | {"MARK": "of the caller"},
        cwd=inside, umask=0o027, timeout=scaled(120), check=False,
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[:4] == ["0", "/home/alice", "of the caller", "0027"]
    assert int(lines[4]) < 10
    assert lines[5:7] == ["lo", "/dev/null"]
    assert lines[7].endswith("Operation not permitted") or lines[7].endswith("Permission denied")
    assert lines[-1] == "no mount"
    assert done.returncode == 137


def test_statuses_of_what_cannot_be_run_are_dockers(desk: Desk) -> None:
    base = ("try", "--base", str(desk.root))
    assert desk.lamina(*base, "nosuch").returncode == 127
    assert desk.lamina(*base, "/etc/passwd").returncode == 126
    assert desk.lamina("try", "--base", str(desk.root / "nosuch"), "true").returncode == 125
    assert desk.lamina(*base, "--network", "moon", "true").returncode == 125
    assert desk.lamina(*base).returncode == 125
    assert desk.tries() == []


def test_every_filesystem_has_its_union(new_layers: Callable[..., Layers], tmp_path: Path) -> None:
    """/var is a disc of its own, with the store on it; /srv is one that cannot be written."""
    fresh_root = box.make_rootfs(new_layers("tmpfs").root)
    var, srv = new_layers("tmpfs"), new_layers("tmpfs")
    (var.lower / "old").write_text("old\n")
    (var.lower / "lib").mkdir()
    (srv.lower / "data").write_text("data\n")
    desk = Desk(tmp_path, fresh_root)
    desk.store = fresh_root / "var/lib/store"
    with contextlib.ExitStack() as ends:
        for source, where, options in (
            (var.lower, fresh_root / "var", "rw"),
            (srv.lower, fresh_root / "srv", "ro"),
        ):
            where.mkdir()
            subprocess.run(["mount", "--bind", source, where], check=True)
            ends.callback(subprocess.check_call, ["umount", where])
            subprocess.run(["mount", "-o", f"remount,bind,{options}", where], check=True)
        before = snapshot(var.lower), snapshot(fresh_root / "etc")
        done = desk.attempt(
            "--keep",
            "ls /var/lib/store; cat /srv/data; echo x > /srv/y; echo x >> /var/old; rm /etc/group;"
            "mv /var/old /old; mkdir /var/new",
        )
        assert done.stdout == "data\n", done.stderr
        assert "Read-only file system" in done.stderr
        (name,) = desk.tries()
        assert (var.lower / "old").read_text() == "old\n"
        assert desk.lamina("apply", name).returncode == 0
        assert (fresh_root / "old").read_text() == "old\nx\n"
        assert not (var.lower / "old").exists()
        assert (var.lower / "new").is_dir()
        assert desk.lamina("apply", "--undo", name).returncode == 0
        desk.lamina("discard", "--all")
        for made in ("store/lamina.db",):
            assert not (var.lower / "lib" / made).exists()
        subprocess.run(["rm", "-r", desk.store], check=True)
        assert (snapshot(var.lower), snapshot(fresh_root / "etc")) == before


def test_a_try_of_the_real_root_changes_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Path("/"))
    file = tmp_path / "file"
    file.write_text("old\n")
    watched = [Path("/etc/apt"), Path("/etc/security")]
    before = [snapshot(path, inodes=True) for path in watched], file.stat()
    script = f"rm -r /etc/apt /etc/security; echo x > {file}; echo x > {tmp_path}/n"
    done = desk.lamina("try", "--no", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert "- apt/" in done.stderr
    assert ([snapshot(path, inodes=True) for path in watched], file.stat()) == before
    assert not (tmp_path / "n").exists()


def test_a_file_of_the_real_root_is_applied_and_put_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Path("/"))
    file = tmp_path / "work/file"
    file.parent.mkdir()
    file.write_text("old\n")
    number = file.stat().st_ino
    desk.lamina("try", "--keep", "sh", "-c", f"echo x > {file}; echo x > {tmp_path}/work/n")
    (name,) = desk.tries()
    # A path may be said from where one is.
    assert desk.lamina("apply", name, "work/file", cwd=tmp_path).returncode == 0
    assert file.read_text() == "x\n"
    assert os.listdir(file.parent) == ["file"]
    assert desk.lamina("apply", "--undo", name).returncode == 0
    assert file.read_text() == "old\n"
    assert file.stat().st_ino == number


# -- what is typed ---------------------------------------------------------------------------------


class Terminal:
    """`lamina try` on a terminal of its own."""

    def __init__(self, desk: Desk, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(desk.root)
            words = ("try", "--base", str(desk.root), *words)
            os.execve(sys.executable, [*LAMINA, *words], desk.environment() | {"TERM": "dumb"})
        self.text = ""

    def expect(self, wanted: str) -> None:
        end = time.monotonic() + scaled(60)
        while wanted not in self.text:
            left = end - time.monotonic()
            if left <= 0:
                os.kill(self.pid, signal.SIGKILL)
                self.end()
                pytest.fail(f"{wanted!r} is not in {self.text!r}")
            if select.select([self.fd], [], [], left)[0]:
                try:
                    self.text += os.read(self.fd, 1 << 16).decode()
                except OSError:
                    assert wanted in self.text, self.text
        self.text = self.text.partition(wanted)[2]

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def end(self) -> int:
        with contextlib.suppress(OSError):
            while os.read(self.fd, 1 << 16):
                pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_on_a_terminal_it_asks(desk: Desk) -> None:
    terminal = Terminal(desk, "sh")
    terminal.expect("# ")
    # A trap, since a shell that is about to start a program would lose the signal.
    script = "trap 'echo cau''ght; exit' INT; echo be''gun; while :; do sleep 0.05; done"
    terminal.type(f'sh -c "{script}"\r')
    terminal.expect("begun\r")
    terminal.type("\x03")  # Ctrl-C is the command's
    terminal.expect("caught\r")
    terminal.expect("# ")
    terminal.type("tty; echo fresh > /new; exit 4\r")
    terminal.expect("/dev/pts/0")
    terminal.expect("+ /new")
    terminal.expect("The command ended with status 4")
    terminal.expect("[d]iff: ")
    terminal.type("what\n")
    terminal.expect("[d]iff: ")
    terminal.type("d\n")
    terminal.expect("+fresh")
    terminal.expect("[d]iff: ")
    terminal.type("y\n")
    terminal.expect("applied 1 of 1 changes")
    assert terminal.end() == 4
    assert (desk.root / "new").read_text() == "fresh\n"


@pytest.mark.parametrize(("answer", "kept"), [("\n", 0), ("keep\n", 1), ("\x04", 1), ("\x03", 1)])
def test_no_answer_is_no_and_no_decision_keeps(desk: Desk, answer: str, kept: int) -> None:
    terminal = Terminal(desk, "touch", "/new")
    terminal.expect("[d]iff: ")
    terminal.type(answer)
    assert terminal.end() == 0
    assert len(desk.tries()) == kept
    assert not (desk.root / "new").exists()


# -- what ends it ----------------------------------------------------------------------------------


def begun(desk: Desk, script: str) -> subprocess.Popen[str]:
    lamina = subprocess.Popen(
        [*LAMINA, "try", "--base", str(desk.root), "sh", "-c", "touch /new; echo on; " + script],
        env=desk.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert lamina.stdout is not None
    assert lamina.stdout.readline() == "on\n"
    return lamina


def test_a_signal_goes_to_the_command_and_the_changes_are_kept(desk: Desk) -> None:
    lamina = begun(desk, "trap 'exit 9' TERM; while :; do sleep 0.05; done")
    lamina.send_signal(signal.SIGTERM)
    _, said = lamina.communicate(timeout=scaled(60))
    assert lamina.returncode == 9
    assert "the changes are kept as" in said
    assert len(desk.tries()) == 1


def test_killed_it_leaves_nothing_that_runs_or_is_mounted(desk: Desk) -> None:
    lamina = begun(desk, "sleep 1234.5678")
    (name,) = os.listdir(desk.store / "tries")
    lamina.kill()
    lamina.communicate(timeout=scaled(60))

    def gone() -> bool:
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        return "sleep 1234.5678" not in listed.stdout

    wait_until(gone, "the command goes on")
    wait_until(lambda: desk.lamina("discard", name).returncode == 0, "the try is in use")
    assert str(desk.store) not in Path("/proc/self/mountinfo").read_text()


def test_one_that_was_interrupted_can_only_be_discarded(desk: Desk) -> None:
    desk.attempt("--keep", "touch /new")
    (name,) = desk.tries()
    record = desk.store / "tries" / name / "try.json"
    record.write_text(re.sub('"finished": [0-9]+', '"finished": 0', record.read_text()))
    refused = desk.lamina("apply", name)
    assert refused.returncode == 1
    assert "it was interrupted while the command ran" in refused.stderr
    assert "broken" in desk.lamina("tries").stdout
    # One that ended, but may have lost power before it was on disc.
    text = record.read_text().replace('"finished": 0', '"finished": 1')
    record.write_text(
        re.sub('"boot": "[^"]*", "synced": true', '"boot": "", "synced": false', text)
    )
    assert "it was on disc" in desk.lamina("tries", name).stderr
    assert desk.lamina("discard", "--all").returncode == 0
    assert desk.tries() == []


# -- an ordinary user ------------------------------------------------------------------------------

USER = 12345
# /dev/fuse is everybody's where udev made it, and need not be here.
AS_USER = f"""
    mount --bind "$1" /dev/fuse; mount --bind "$2" /etc/subuid; mount --bind "$2" /etc/subgid
    mount --bind "$3" /etc/passwd; shift 3
    exec setpriv --reuid {USER} --regid {USER} --clear-groups "$@"
"""


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory on an ordinary user's way. Each run of pytest closes its own to others, also
    those of the runs that are under way.
    """
    place = Path(tempfile.mkdtemp(prefix="lamina-try-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def test_a_try_ends_though_its_user_cannot_reach_it_any_more(reachable: Path) -> None:
    fuse, ids, passwd, home = (reachable / name for name in ("fuse", "ids", "passwd", "home"))
    os.mknod(fuse, 0o020666, os.makedev(10, 229))
    fuse.chmod(0o666)
    ids.touch()
    passwd.write_text(Path("/etc/passwd").read_text() + f"tester:x:{USER}:{USER}::/:/bin/sh\n")
    home.mkdir(0o700)
    os.chown(home, USER, USER)
    base = environment() | {"HOME": str(home), "LAMINA_ROOT": str(home / ".store")}
    base.pop("XDG_RUNTIME_DIR", None)
    words = ["try", "--keep", "sh", "-c", "echo begun; read line; echo $line > file"]
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-euc", AS_USER, "sh", fuse, ids, passwd, *LAMINA, *words],
        env=base, cwd=home, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        line = running.stdout.readline()
        reachable.chmod(0o700)
        try:
            _, said = running.communicate("go on\n", timeout=scaled(60))
        except subprocess.TimeoutExpired:
            running.kill()
            raise
        finally:
            reachable.chmod(0o755)
    assert line == "begun\n", said
    assert "Traceback" not in said
    (kept,) = (home / ".store/tries").glob("*/*/upper/file")
    assert kept.read_text() == "go on\n"


@pytest.mark.parametrize("subordinate", [True, False])
def test_an_ordinary_user_tries_what_it_could_do(reachable: Path, subordinate: bool) -> None:
    fuse, ids, passwd, home = (reachable / name for name in ("fuse", "ids", "passwd", "home"))
    os.mknod(fuse, 0o020666, os.makedev(10, 229))
    fuse.chmod(0o666)
    ids.write_text("tester:900000:65536\n" if subordinate else "")
    passwd.write_text(Path("/etc/passwd").read_text() + f"tester:x:{USER}:{USER}::/:/bin/sh\n")
    home.mkdir(0o700)
    (home / "file").write_text("old\n")
    for path in (home, home / "file"):
        os.chown(path, USER, USER)
    before = snapshot(home, inodes=True)
    base = environment() | {"HOME": str(home), "LAMINA_ROOT": str(home / ".store")}
    base.pop("XDG_RUNTIME_DIR", None)

    def lamina(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "-m", "sh", "-euc", AS_USER, "sh", fuse, ids, passwd, *LAMINA, *words],
            env=base, cwd=home, timeout=scaled(120), check=False,
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    script = """
        id -u; ls -A .store; echo more >> file; mkdir -p new/deep; mv file new
        touch /etc/x || cat /etc/shadow || exit 3
    """
    done = lamina("try", "--keep", "sh", "-c", script)
    assert done.returncode == 3, done.stderr
    assert done.stdout == f"{USER if subordinate else 0}\n"
    assert "Read-only file system" in done.stderr
    assert "Permission denied" in done.stderr
    store = home / ".store"
    held = store.rename(reachable / "store")
    assert snapshot(home, inodes=True) == before
    held.rename(store)
    listed = lamina("tries", "-q")
    name = listed.stdout.strip()
    assert name, listed.stderr + done.stderr
    assert lamina("apply", name).returncode == 0
    assert (home / "new/file").read_text() == "old\nmore\n"
    assert (home / "new/file").stat().st_uid == USER
    undone = lamina("apply", "--undo", name)
    assert undone.returncode == 0, (undone.stderr, done.stderr, os.listdir(home))
    assert lamina("discard", name).returncode == 0
    assert os.listdir(store / "tries") == []
    subprocess.run(["rm", "-r", store], check=True)
    assert snapshot(home, inodes=True) == before
