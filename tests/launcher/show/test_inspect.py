# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina inspect` answers in docker's form."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from launcher import volumes
from launcher.image import builtin
from launcher.image.model import Health
from launcher.record import (
    LogOptions,
    Port,
    Record,
    RequestedDevice,
    RequestedMount,
    RestartPolicy,
)
from launcher.rfc3339 import rfc3339
from launcher.spec import BlockThrottle, Resources
from tests.launcher.show.made import IMAGE_ID, SECOND, Made


def shown(made: Made, name: str, *words: str) -> dict[str, Any]:
    ended = made.lamina("inspect", *words, name)
    assert (ended.status, ended.err) == (0, "")
    (document,) = json.loads(ended.out)
    assert isinstance(document, dict)
    return document


@pytest.fixture
def full(made: Made) -> Record:
    return made.add(
        1,
        "full",
        args=(b"/entry", b"-x", b"run", b"it"),
        entrypoint=2,
        env=(b"PATH=/bin", b"BYTES=\xff"),
        cwd=b"/work",
        user="1:2",
        hostname="box",
        labels=(("b", "2"), ("a", "1")),
        tty=True,
        interactive=True,
        init=True,
        layers=(b"/layers/2", b"/layers/1"),
        mounts=(
            RequestedMount("bind", "/src", "/dst", ("ro", "rslave")),
            RequestedMount("volume", "data", "/data", ("nocopy",)),
            RequestedMount("volume", "ef" * 32, "/anonymous", ("anonymous",)),
            RequestedMount("tmpfs", "", "/scratch", ("size=1m",)),
        ),
        devices=(RequestedDevice("/dev/null", "/dev/zero", "r"),),
        ports=(Port(80, "tcp", 8080, "127.0.0.1"), Port(53, "udp")),
        exposed=("443/tcp",),
        cap_add=("NET_ADMIN",),
        no_new_privileges=True,
        seccomp="unconfined",
        ulimits=("nofile=10:20",),
        sysctls=(("kernel.msgmax", "1"),),
        network="bridge",
        resources=Resources(
            memory=1 << 30,
            cpu_quota=50_000,
            cpu_period=100_000,
            pids=10,
            blkio_read_bps=(BlockThrottle(8, 0, 1000),),
        ),
        restart=RestartPolicy("on-failure", 3),
        stop_signal=2,
        stop_timeout=5,
        health=Health(("CMD-SHELL", "true"), interval=SECOND),
        log=LogOptions("json-file", 1000, 3),
    )


def test_what_was_asked_for(made: Made, full: Record) -> None:
    found = shown(made, "full")
    directory = os.fsdecode(made.paths.container(full.id))
    assert {key: value for key, value in found.items() if isinstance(value, (str, int))} == {
        "Id": full.id,
        "Created": rfc3339(full.created),
        "Path": "/entry",
        "Image": "sha256:" + IMAGE_ID,
        "ResolvConfPath": directory + "/resolv.conf",
        "HostnamePath": directory + "/hostname",
        "HostsPath": directory + "/hosts",
        "LogPath": directory + "/log",
        "Name": "/full",
        "RestartCount": 0,
        "Driver": "lamina",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
    }
    assert found["Args"] == ["-x", "run", "it"]
    assert found["GraphDriver"] == {
        "Data": {
            "LowerDir": "/layers/2:/layers/1",
            "MergedDir": directory + "/merged",
            "UpperDir": directory + "/upper",
            "WorkDir": directory + "/work",
        },
        "Name": "lamina",
    }
    config = found["Config"]
    assert config["Entrypoint"] == ["/entry", "-x"]
    assert config["Cmd"] == ["run", "it"]
    assert config["Env"] == ["PATH=/bin", "BYTES=\ufffd"]
    assert (config["WorkingDir"], config["User"], config["Hostname"]) == ("/work", "1:2", "box")
    assert (config["Tty"], config["OpenStdin"]) == (True, True)
    assert config["Labels"] == {"a": "1", "b": "2"}
    assert config["ExposedPorts"] == {"443/tcp": {}, "53/udp": {}, "80/tcp": {}}
    assert config["Volumes"] == {"/anonymous": {}}
    assert (config["StopSignal"], config["StopTimeout"]) == ("SIGINT", 5)
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": SECOND}


def test_limits_and_rights(made: Made, full: Record) -> None:
    host = shown(made, "full")["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (1 << 30, 1 << 31, 10)
    assert (host["NanoCpus"], host["CpuQuota"], host["CpuPeriod"]) == (500_000_000, 0, 0)
    assert host["BlkioDeviceReadBps"] == [{"Path": "8:0", "Rate": 1000}]
    assert host["CapAdd"] == ["NET_ADMIN"]
    assert host["CapDrop"] is None
    assert host["SecurityOpt"] == ["no-new-privileges", "seccomp=unconfined"]
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 20, "Soft": 10}]
    assert host["Sysctls"] == {"kernel.msgmax": "1"}
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-file": "3", "max-size": "1000"},
    }
    assert host["Devices"][0]["PathInContainer"] == "/dev/zero"
    assert host["Init"] is True
    assert "/proc/kcore" in host["MaskedPaths"]
    made.add(2, "bare", systempaths=False)
    host = shown(made, "bare")["HostConfig"]
    assert host["MaskedPaths"] == host["ReadonlyPaths"] == []
    assert "Init" not in host


def test_mounts_and_ports(made: Made, full: Record) -> None:
    found = shown(made, "full")
    volumes = os.fsdecode(made.paths.root) + "/volumes"
    mounts = {each["Destination"]: each for each in found["Mounts"]}
    assert mounts["/dst"] == {
        "Type": "bind",
        "Source": "/src",
        "Destination": "/dst",
        "Mode": "ro",
        "RW": False,
        "Propagation": "rslave",
    }
    assert mounts["/data"]["Source"] == f"{volumes}/data/_data"
    assert (mounts["/data"]["Name"], mounts["/data"]["RW"]) == ("data", True)
    host = found["HostConfig"]
    assert host["Tmpfs"] == {"/scratch": "size=1m"}
    assert host["Binds"] == ["/src:/dst:ro,rslave", "data:/data:nocopy", f"{'ef' * 32}:/anonymous"]
    bindings = {
        "53/udp": [{"HostIp": "", "HostPort": ""}],
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
    }
    assert host["PortBindings"] == bindings
    assert found["NetworkSettings"]["Ports"] == {}
    made.start(full)
    assert shown(made, "full")["NetworkSettings"]["Ports"] == {"443/tcp": None} | bindings


def state(made: Made, name: str) -> dict[str, Any]:
    found: dict[str, Any] = shown(made, name)["State"]
    return found


def test_the_state_over_a_life(made: Made) -> None:
    record = made.add(1, "x", health=Health(("CMD", "true")))
    never = "0001-01-01T00:00:00Z"
    fresh = state(made, "x")
    assert (fresh["Status"], fresh["StartedAt"], fresh["FinishedAt"]) == ("created", never, never)
    made.start(record, 30, health="healthy", restarts=2)
    running = state(made, "x")
    assert running == fresh | {
        "Status": "running",
        "Running": True,
        "Pid": os.getpid(),
        "StartedAt": rfc3339(made.now - 30 * SECOND),
        "Health": running["Health"],
    }
    assert running["Health"] == {"Status": "healthy", "FailingStreak": 0, "Log": []}
    result = {"Start": made.now, "End": made.now + 5, "ExitCode": 1, "Output": "no\n"}
    content = {"Status": "unhealthy", "FailingStreak": 2, "Log": [result]}
    with open(made.paths.runtime(record.id) + b"/health.json", "w") as file:
        json.dump(content, file)
    assert state(made, "x")["Health"] == content | {
        "Log": [result | {"Start": rfc3339(made.now), "End": rfc3339(made.now + 5)}]
    }
    assert shown(made, "x")["RestartCount"] == 2
    made.start(record, 30, "paused")
    assert (state(made, "x")["Status"], state(made, "x")["Paused"]) == ("paused", True)
    assert state(made, "x")["Running"] is True
    made.end(record, 5, 137, oom=True, error="it is so")
    ended = state(made, "x")
    assert (ended["Status"], ended["Running"], ended["Pid"]) == ("exited", False, 0)
    assert (ended["ExitCode"], ended["OOMKilled"], ended["Error"]) == (137, True, "it is so")
    assert ended["FinishedAt"] == rfc3339(made.now - 5 * SECOND)


def test_a_lost_container_is_dead(made: Made) -> None:
    record = made.add(1, "x")
    made.start(record)
    made.leave(record)
    assert (state(made, "x")["Status"], state(made, "x")["Dead"]) == ("dead", True)


def test_a_template_may_ask_for_what_may_not_be_there(made: Made) -> None:
    made.add(1, "x")
    form = "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.HostConfig.CapAdd}}"
    assert made.lamina("inspect", "-f", form, "x").out == "none []\n"
    assert "Health" not in state(made, "x")
    assert made.lamina("inspect", "-f", "{{.Nope}}", "x").status == 1


def test_sizes_on_demand(made: Made) -> None:
    record = made.add(1, "x")
    with open(made.paths.container(record.id) + b"/upper/f", "wb") as file:
        file.write(b"12345")
    assert "SizeRw" not in shown(made, "x")
    assert shown(made, "x", "--size")["SizeRw"] == 5
    assert shown(made, "x", "-s")["SizeRootFs"] == 5


def test_several_at_once_and_a_line_for_each_that_is_missing(made: Made) -> None:
    made.add(1, "one")
    made.add(2, "two")
    ended = made.lamina("inspect", "-f", "{{.Name}}", "one", "nope", "two", "nada")
    assert (ended.out, ended.status) == ("/one\n/two\n", 1)
    assert ended.err == (
        "lamina: cannot find nope: there is no container, image or volume of that name or id\n"
        "lamina: cannot find nada: there is no container, image or volume of that name or id\n"
    )
    ended = made.lamina("inspect", "one", "nope", "0002")
    assert [each["Name"] for each in json.loads(ended.out)] == ["/one", "/two"]
    assert ended.status == 1
    assert made.lamina("inspect", "nope").out == "[]\n"
    assert made.lamina("inspect").status == 2
    assert made.lamina("inspect", "--type", "thing", "one").status == 2


def test_volumes_too(made: Made) -> None:
    volumes.create(made.paths, "data", (("a", "b"),))
    found = shown(made, "data")
    assert (found["Name"], found["Labels"], found["Driver"]) == ("data", {"a": "b"}, "local")
    assert os.path.isdir(found["Mountpoint"])
    made.add(1, "data")
    assert shown(made, "data")["Name"] == "/data"
    assert shown(made, "data", "--type", "volume") == found


def test_images_too(made: Made) -> None:
    builtin.make_busybox(made.paths)
    made.add(1, "busybox")  # a container's name comes first
    assert shown(made, "busybox")["Name"] == "/busybox"
    found = shown(made, "busybox", "--type", "image")
    assert found["RepoTags"] == ["busybox:latest"]
    assert found["Id"].startswith("sha256:")
    assert found["RootFS"]["Type"] == "layers"
    assert len(found["RootFS"]["Layers"]) == 1
    assert found["Config"]["Cmd"] == ["sh"]
    assert found["Size"] > 100_000
    assert os.path.isdir(found["GraphDriver"]["Data"]["UpperDir"])
    assert shown(made, found["Id"])["Id"] == found["Id"]
    host = shown(made, "host")
    assert host["GraphDriver"]["Data"] == {"UpperDir": "/"}
    assert made.lamina("inspect", "--type", "container", "host").status == 1
