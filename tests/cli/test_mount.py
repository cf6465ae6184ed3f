# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina mount` and `mount.fuse.lamina`: mounted when they return, nothing left if they fail."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Lamina, run_lamina
from tests.support.clock import scaled, wait_until
from tests.support.daemon import REPOSITORY, Daemon, command, environment, wait_gone
from tests.support.layers import Layers
from tests.support.mounttable import MountEntry, mount_at, run


def mounted(layers: Layers) -> MountEntry:
    entry = mount_at(layers.merged)
    assert entry is not None
    return entry


def daemon_of(layers: Layers) -> int:
    """The daemon's process id, from the list of mounts."""
    listed = json.loads(run_lamina("mounts", "--json").stdout)
    (pid,) = [one["daemon"] for one in listed if one["merged"] == str(layers.merged)]
    assert isinstance(pid, int)
    return pid


def test_the_cd_example(cd: Layers, lamina: Lamina, transport: str) -> None:
    """Edits land in the empty directory; the CD stays; mounted again, the edits are found."""
    words = ("mount", "--transport", transport, "--lower", cd.lower, "--upper", cd.upper, cd.merged)
    assert lamina(*words).stdout == ""
    entry = mounted(cd)
    assert (entry.fstype, entry.source) == ("fuse.lamina", b"lamina")
    may = cd.merged / "letters/may"
    with may.open("a") as stream:
        stream.write("added today\n")
    (cd.merged / "advertisement").unlink()
    assert (cd.upper / "letters/may").read_text() == "written once\nadded today\n"
    assert (cd.lower / "letters/may").read_text() == "written once\n"
    lamina("umount", cd.merged)
    assert mount_at(cd.merged) is None
    lamina(*words)
    assert may.read_text() == "written once\nadded today\n"
    assert not (cd.merged / "advertisement").exists()
    lamina("umount", cd.merged)


def test_more_open_files_than_the_mounter_may_have(cd: Layers, transport: str) -> None:
    """Files that others have open are not held to the limit of who mounted."""
    (cd.lower / "many").mkdir()
    for number in range(300):
        (cd.lower / f"many/{number}").write_bytes(b"%d" % number)
    words = command("mount", "--transport", transport, "--lower", str(cd.lower), str(cd.merged))
    limited = ["sh", "-c", 'ulimit -Sn 200 && exec "$@"', "sh", *words]
    try:
        subprocess.run(limited, env=environment(), check=True)
        streams = [(cd.merged / f"many/{number}").open("rb") for number in range(300)]
        assert [stream.read() for stream in streams] == [b"%d" % each for each in range(300)]
        for stream in streams:
            stream.close()
    finally:
        run_lamina("umount", cd.merged)


def test_work_beside_the_upper(cd: Layers, lamina: Lamina) -> None:
    """The work directory is a sibling of the upper, made if it is not there, and used again."""
    work = cd.root / ".upper.work"
    for _ in range(2):
        lamina("mount", "--lower", cd.lower, "--upper", cd.upper, cd.merged)
        assert stat.S_IMODE(work.stat().st_mode) == 0o700
        lamina("umount", cd.merged)
    lamina("mount", "--lower", cd.lower, "--upper", cd.upper, "--work", cd.work, cd.merged)
    assert (cd.work / "work").is_dir()
    lamina("umount", cd.merged)


def test_option_list(cd: Layers, lamina: Lamina) -> None:
    """-o lowerdir=,upperdir=,workdir= as kernel overlayfs takes it, escapes and all."""
    odd = cd.root / "odd:name,with\\all"
    cd.lower.rename(odd)
    second = cd.more("second")
    (second / "more").write_text("more")
    escaped = str(odd)
    for special in "\\:,":
        escaped = escaped.replace(special, "\\" + special)
    options = f"lowerdir={escaped}:{second},upperdir={cd.upper},workdir={cd.work},noatime,nosuid"
    lamina("mount", "-o", options, "-o", "fsname=my cd,noexec", cd.merged)
    entry = mounted(cd)
    assert entry.source == b"my cd"
    assert {"noatime", "nosuid", "noexec"} <= entry.options
    assert (cd.merged / "keep").read_text() == "kept\n"
    assert (cd.merged / "more").read_text() == "more"
    # What is on record is what was mounted.
    (listed,) = (
        one
        for one in json.loads(lamina("mounts", "--json").stdout)
        if one["merged"] == str(cd.merged)
    )
    assert listed["lower"] == [str(odd), str(second)]
    lamina("umount", cd.merged)


def test_relative_paths(cd: Layers, lamina: Lamina) -> None:
    words = ("--lower", "lower/../lower", "--upper", "./upper", "merged/")
    lamina("mount", *words, cwd=cd.root)
    assert (cd.merged / "keep").read_text() == "kept\n"
    lamina("umount", ".", cwd=cd.root, status=1)
    lamina("umount", "merged/", cwd=cd.root)


def test_names_that_are_not_utf8(cd: Layers, lamina: Lamina) -> None:
    root = os.fsencode(cd.root)
    for name in (b"/l\xff\n", b"/u\xff", b"/m\xff "):
        os.mkdir(root + name)
    Path(os.fsdecode(root + b"/l\xff\n/\xfe")).write_text("x")
    merged = root + b"/m\xff "
    lamina("mount", "--lower", root + b"/l\xff\n", "--upper", root + b"/u\xff", merged)
    Path(os.fsdecode(merged + b"/\xfe")).write_text("y")
    assert f"{cd.root}/m\\xff  " in lamina("mounts").stdout
    assert lamina("diff", merged).stdout == "C /\\xfe\n"
    assert json.loads(lamina("diff", "--json", merged).stdout)[0]["path"] == "/\udcfe"
    assert f"lower layer {cd.root}/l\\xff\\x0a/\\xfe" in lamina("explain", merged + b"/\xfe").stdout
    lamina("umount", merged)


def test_read_only(cd: Layers, lamina: Lamina) -> None:
    """Without an upper, with --read-only, and with -o ro."""
    for words in ((), ("--upper", cd.upper, "--read-only"), ("--upper", cd.upper, "-o", "ro")):
        lamina("mount", "--lower", cd.lower, *words, cd.merged)
        assert "ro" in mounted(cd).options
        with pytest.raises(OSError, match="Read-only file system"):
            (cd.merged / "new").touch()
        assert lamina("diff", cd.merged).stdout == ""
        lamina("umount", cd.merged)


def test_foreground_and_ready(cd: Layers, lamina: Lamina, transport: str) -> None:
    """-f serves until SIGTERM; a byte tells when the mount answers, whoever waits for it."""
    for words in (("-f",), ()):
        reader, writer = os.pipe()
        process = subprocess.Popen(
            command(
                *("mount", *words, "--transport", transport, "--ready-fd", str(writer)),
                *("--lower", str(cd.lower), "--upper", str(cd.upper), str(cd.merged)),
            ),
            pass_fds=(writer,),
            env=environment(),
        )
        os.close(writer)
        with open(reader, "rb") as stream:
            # All of it: the daemon closes its copy once it has written.
            assert stream.read() == b"\n"
        assert mount_at(cd.merged) is not None
        pid = daemon_of(cd)
        assert (pid == process.pid) == bool(words)
        if words:
            process.send_signal(signal.SIGTERM)
        else:
            assert process.wait(scaled(10)) == 0
            os.kill(pid, signal.SIGINT)
        wait_gone_or_reaped(process, pid)
        assert process.returncode == 0
        assert mount_at(cd.merged) is None


def wait_gone_or_reaped(process: subprocess.Popen[bytes], pid: int) -> None:
    process.wait(scaled(20))
    wait_gone(pid)


def test_the_daemon_keeps_nothing(cd: Layers, lamina: Lamina) -> None:
    """A session of its own, / as its directory, /dev/null, and no descriptor of its starter's."""
    reader, writer = os.pipe()
    try:
        words = ("mount", "--lower", str(cd.lower), "--upper", str(cd.upper), str(cd.merged))
        subprocess.run(
            command(*words), pass_fds=(writer,), env=environment(), check=True, cwd=cd.root
        )
        os.close(writer)
        readable, _, _ = select.select([reader], [], [], scaled(10))
        assert readable, "the daemon holds the pipe"
    finally:
        os.close(reader)
    pid = daemon_of(cd)
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)} == {"/dev/null"}
    lamina("umount", cd.merged)


def test_log(cd: Layers, lamina: Lamina) -> None:
    """What the daemon has to say goes to the file that was named."""
    log = cd.root / "log"
    words = ("--lower", cd.lower, "--upper", cd.upper, "--log", log, "--debug")
    lamina("mount", *words, cd.merged)
    assert "transport device" in log.read_text() or "transport pyfuse3" in log.read_text()
    lamina("umount", cd.merged)
    done = lamina("mount", "--lower", cd.lower, "--log", cd.root / "no/log", cd.merged, status=1)
    assert f"cannot open log file {cd.root}/no/log: No such file or directory" in done.stderr


def test_mounted_again_at_once(cd: Layers, lamina: Lamina) -> None:
    """umount returns when the daemon has let go of upper and work: nothing is in use any more."""
    for _ in range(5):
        lamina("mount", "--lower", cd.lower, "--upper", cd.upper, cd.merged)
        lamina("umount", cd.merged)


def failures(cd: Layers) -> list[tuple[tuple[str, ...], str]]:
    lower, upper, merged = str(cd.lower), str(cd.upper), str(cd.merged)
    no = "No such file or directory"
    pair = ("--lower", lower, "--upper", upper)
    file = f"{lower}/keep"
    nest = cd.root / "nest"
    (nest / "upper").mkdir(parents=True, exist_ok=True)
    return [
        ((*pair, f"{merged}/no"), f"cannot mount on {merged}/no: {no}"),
        ((*pair, file), f"cannot mount on {file}: Not a directory"),
        (("--lower", f"{lower}/no", merged), f"cannot use lower layer {lower}/no: {no}"),
        (("--lower", file, merged), f"cannot use lower layer {file}: Not a directory"),
        (("--lower", lower, "--upper", f"{upper}/no", merged), f"directory {upper}/no: {no}"),
        (("--lower", lower, "--upper", file, merged), f"directory {file}: Not a directory"),
        ((*pair, "--work", f"{lower}/../no", merged), f"work directory {cd.root}/no: {no}"),
        ((*pair, "--work", "/dev", merged), "it is not on the upper directory's mount"),
        ((*pair, "--work", upper, merged), "inside the upper directory"),
        (("--lower", lower, "--upper", str(cd.root), merged), "it is the top of its filesystem"),
        (("--lower", str(nest), "--upper", f"{nest}/upper", merged), "inside"),
        ((*pair, "-o", "userxattr,format=aufs,foo", merged), "unknown option 'foo'"),
        ((*pair, "-o", 'context="a:b:c,d"', merged), "the kernel does not take context="),
    ]


@pytest.mark.parametrize("number", range(13))
def test_failure_leaves_nothing(cd: Layers, lamina: Lamina, number: int) -> None:
    """One line, and neither a mount nor a work directory that was not there before."""
    words, line = failures(cd)[number]
    before = sorted(cd.root.rglob("*"))
    done = lamina("mount", *words, status=2 if "foo" in line else 1)
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(cd.root.rglob("*")) == before
    assert mount_at(cd.merged) is None


def test_in_use(cd: Layers, lamina: Lamina) -> None:
    """A second mount on the same upper is refused, and the first one does not notice."""
    other = cd.more("other")
    words = ("mount", "--lower", cd.lower, "--upper", cd.upper)
    lamina(*words, cd.merged)
    done = lamina(*words, other, status=1)
    assert "in use by another mount" in done.stderr
    assert (cd.root / ".upper.work/work").is_dir()
    (cd.merged / "new").write_text("still works")
    lamina("umount", cd.merged)
    assert mount_at(other) is None


def test_a_daemon_that_dies_before_it_is_ready(cd: Layers, lamina: Lamina) -> None:
    """Killed while it mounts, it is missed: one line, no waiting."""
    code = (
        "import os, signal, sys\n"
        "import unionfs.fuse.session as session\n"
        "session.run = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from unionfs.cli import command_line\n"
        "sys.exit(command_line())"
    )
    words = [sys.executable, "-c", code, "mount", "--lower", str(cd.lower), str(cd.merged)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 1
    line = "the daemon was killed by SIGKILL before it had mounted"
    assert done.stderr == f"lamina: cannot mount {cd.merged}: {line}\n"


def helper(*words: str, status: int = 0) -> str:
    """Run mount.fuse.lamina; what it complained."""
    code = "import sys; from unionfs.cli import mount_helper_main; sys.exit(mount_helper_main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_mount_helper(cd: Layers, lamina: Lamina) -> None:
    """mount(8), "EXTERNAL HELPERS": SOURCE TARGET [-sfnv] [-o OPTIONS] [-t TYPE]."""
    lowers = f"lowerdir={cd.lower},upperdir={cd.upper},workdir={cd.work}"
    options = f"rw,relatime,_netdev,x-systemd.device-timeout=5,{lowers}"
    target = str(cd.merged)
    assert helper("disc", target, "-f", "-o", options) == ""
    assert mount_at(cd.merged) is None
    assert "unknown option 'foo'" in helper("disc", target, "-o", options + ",foo", status=2)
    assert "no lower layer" in helper("disc", target, "-o", "rw", status=2)
    assert "are needed" in helper("-o", options, status=2)
    told = helper("disc", target, "-sv", "-t", "fuse.lamina", "-o", options + ",foo")
    assert told == f"disc mounted on {target}\n"
    assert mounted(cd).source == b"disc"
    assert (cd.merged / "keep").read_text() == "kept\n"
    run("umount", target)
    assert mount_at(cd.merged) is None


def test_mount_8(cd: Layers, lamina: Lamina) -> None:
    """mount -t fuse.lamina and a line of fstab(5), through the helper that mount(8) runs."""
    helper_file = cd.root / "mount.fuse.lamina"
    helper_file.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from unionfs.cli import mount_helper_main\nsys.exit(mount_helper_main())\n"
    )
    helper_file.chmod(0o755)
    fstab = cd.root / "fstab"
    lowers = f"lowerdir={cd.lower},upperdir={cd.upper},workdir={cd.work}"
    options = f"{lowers},noauto,nofail,x-mine=1,user"
    fstab.write_text(f"my\\040cd {cd.merged} fuse.lamina {options} 0 0\n")
    # mount(8) looks for its helpers in /sbin only: it gets a view of it with ours in place.
    shown = f"grep -F {cd.merged} /proc/mounts"
    script = " && ".join(
        (
            f"mount --bind {helper_file} $(readlink -f /sbin/mount.fuse3)",
            f"mount -t fuse.lamina -o {lowers},nodev disc {cd.merged}",
            shown,
            f"cat {cd.merged}/keep",
            f"umount {cd.merged}",
            f"mount --fstab {fstab} {cd.merged}",
            shown,
            f"umount {cd.merged}",
        )
    )
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=scaled(60),
    )
    assert done.returncode == 0, done.stderr
    first, text, second = done.stdout.splitlines()
    assert first.startswith(f"disc {cd.merged} fuse.lamina rw,nodev,")
    assert text == "kept"
    assert second.startswith(f"my\\040cd {cd.merged} fuse.lamina rw,nosuid,nodev,noexec,")


def test_as_mount_fuse_calls_it(cd: Layers, lamina: Lamina) -> None:
    """mount.fuse(8) runs `lamina SOURCE TARGET -o …` where there is no helper of ours."""
    lamina("disc", cd.merged, "-o", f"rw,lowerdir={cd.lower}")
    assert mounted(cd).source == b"disc"
    lamina("umount", cd.merged)


def test_the_launcher_hands_on(cd: Layers, lamina: Lamina) -> None:
    """The installed `lamina` is launcher.cli.main."""
    code = "import sys; from launcher.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "mount", "--lower", str(cd.lower), str(cd.merged)]
    subprocess.run(words, env=environment(), check=True)
    lamina("umount", cd.merged)


def test_stopping_a_mount_that_is_waited_for(cd: Layers, lamina: Lamina) -> None:
    """Ctrl-C while it mounts ends the daemon as well."""
    code = (
        "import os, sys, time\n"
        "import unionfs.fuse.session as session\n"
        f"def run(*_):\n"
        f"    open({str(cd.root / 'started')!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "session.run = run\n"
        "from unionfs.cli import command_line\n"
        "sys.exit(command_line())"
    )
    words = [sys.executable, "-c", code, "mount", "--lower", str(cd.lower), str(cd.merged)]
    process = subprocess.Popen(words, env=environment())
    started = cd.root / "started"
    wait_until(lambda: started.exists() and bool(started.read_text()), "the daemon has started")
    process.send_signal(signal.SIGINT)
    assert process.wait(scaled(10)) == 130
    wait_gone(int(started.read_text()))


def test_supervised(cd: Layers, transport: str) -> None:
    """What supervisors do: -f with --ready-fd, then SIGTERM (see Daemon)."""
    daemon = Daemon(cd.merged, [cd.lower], cd.upper, cd.work, transport, {"noatime": True})
    daemon.start()
    assert (cd.merged / "keep").read_text() == "kept\n"
    daemon.finish()
