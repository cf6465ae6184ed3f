# SPDX-License-Identifier: GPL-3.0-or-later
"""The flags of `run` and `create`: docker's names. What they mean, the rooms beside this say."""

from __future__ import annotations

from launcher.typed import Final
from unionfs import DEBUG_FLAG, Flag

__all__ = ["FLAGS", "RESOURCE_FLAGS", "RESTART_FLAG", "RUN_FLAGS"]


def _flag(names: str, value: str | None, help: str) -> Flag:
    return Flag(tuple(names.split()), value, help)


def _emptiable(names: str, value: str, help: str) -> Flag:
    return Flag(tuple(names.split()), value, help, empty=True)


# Those that `update` takes as well.
RESOURCE_FLAGS: Final = (
    _flag("-m --memory", "BYTES", "limit memory (512m, 1.5g)"),
    _flag("--memory-swap", "BYTES", "limit memory and swap together; -1: swap without limit"),
    _flag("--memory-reservation", "BYTES", "what memory is pressed down to when it is short"),
    _flag("--cpus", "NUMBER", "limit processor time: 0.5 is half a processor"),
    _flag("-c --cpu-shares", "N", "weight of processor time, of 1024"),
    _flag("--cpu-quota", "USEC", "limit processor time in each period"),
    _flag("--cpu-period", "USEC", "length of the period of --cpu-quota"),
    _flag("--cpuset-cpus", "LIST", "processors it may run on (0-2,4)"),
    _flag("--cpuset-mems", "LIST", "memory nodes it may use"),
    _flag("--pids-limit", "N", "limit the number of processes; -1: no limit"),
    _flag("--blkio-weight", "N", "weight of block I/O, 10 to 1000; 0: none"),
)

RESTART_FLAG: Final = _flag(
    "--restart", "POLICY", "no, always, unless-stopped or on-failure[:TRIES]"
)

FLAGS: Final = (
    _flag("--help", None, "show this text"),  # -h is the host name, as with docker
    DEBUG_FLAG,
    # What it is
    _flag("--name", "NAME", "call the container so"),
    _flag("-l --label", "KEY=VALUE", "label the container"),
    _flag("--label-file", "FILE", "read labels, one a line"),
    _flag("--annotation", "KEY=VALUE", "annotate the container"),
    _flag("--cidfile", "FILE", "write the id to a new file"),
    _flag("--pidfile", "FILE", "write the first process's number to a file at each start"),
    _flag("--rm", None, "remove the container and its anonymous volumes when it ends"),
    _flag("--pull", "WHEN", "missing or never: images are not fetched from anywhere"),
    _flag("--platform", "OS/ARCH", "only what this machine is"),
    # The process
    _flag("-i --interactive", None, "keep its standard input open"),
    _flag("-t --tty", None, "give it a terminal"),
    _flag("-a --attach", "STREAM", "attach to stdin, stdout or stderr only"),
    _emptiable("--entrypoint", "WORD", "run this, with the command as its arguments"),
    _flag("-e --env", "NAME[=VALUE]", "set a variable; without = take it from here"),
    _flag("--env-file", "FILE", "read variables, one a line"),
    _flag("-w --workdir", "DIR", "start in this directory, which is made if missing"),
    _flag("-u --user", "USER[:GROUP]", "be this user, by name or number"),
    _flag("--group-add", "GROUP", "be in this group too"),
    _flag("--init", None, "run an init that reaps processes and passes signals on"),
    _flag("--stop-signal", "SIGNAL", "what `stop` sends"),
    _flag("--stop-timeout", "SECONDS", "how long `stop` waits before it kills; -1: for ever"),
    RESTART_FLAG,
    _flag("--detach-keys", "KEYS", "what detaches from a terminal (ctrl-p,ctrl-q)"),
    # Files
    _flag("-v --volume", "[SOURCE:]PATH[:OPTIONS]", "mount a volume, or a directory of the host's"),
    _flag("--mount", "KEY=VALUE,…", "mount (type=bind|volume|tmpfs,source=…,target=…)"),
    _flag("--tmpfs", "PATH[:OPTIONS]", "mount a filesystem in memory"),
    _flag("--volumes-from", "CONTAINER[:ro]", "mount what another container mounts"),
    _flag("--read-only", None, "make the root filesystem read-only"),
    _flag("--shm-size", "BYTES", "size of /dev/shm (64m)"),
    _flag("--device", "PATH[:PATH][:rwm]", "give it a device of the host's"),
    _flag("--device-cgroup-rule", "RULE", "allow devices: TYPE MAJOR:MINOR ACCESS"),
    _flag("--volatile", None, "do not wait for discs: a loss of power loses its files"),
    # Rights
    _flag("--privileged", None, "give it every right and device there is"),
    _flag("--cap-add", "CAPABILITY", "grant a capability, or ALL"),
    _flag("--cap-drop", "CAPABILITY", "take a capability, or ALL"),
    _flag(
        "--security-opt",
        "OPTION",
        "no-new-privileges, seccomp=FILE|unconfined, systempaths=unconfined, apparmor=…, label=…",
    ),
    _flag("--ulimit", "NAME=SOFT[:HARD]", "set a resource limit"),
    _flag("--oom-score-adj", "N", "how soon it is killed when memory is short, -1000 to 1000"),
    _flag("--oom-kill-disable", None, "make it wait for memory instead (cgroup v1)"),
    # Namespaces
    _flag("--pid", "host|container:ID", "share the processes"),
    _flag("--ipc", "MODE", "none, private, shareable, host or container:ID"),
    _flag("--uts", "host", "share the host's names"),
    _flag("--userns", "MODE", "host, auto, auto:size=N or UID:GID:SIZE"),
    _flag("--cgroupns", "MODE", "private or host"),
    _flag("--net --network", "MODE", "none (the default for now), host or container:ID"),
    _flag("-h --hostname", "NAME", "its host name (the beginning of its id)"),
    _flag("--domainname", "NAME", "its NIS domain name"),
    _flag("--sysctl", "NAME=VALUE", "set a kernel setting of its namespaces"),
    # Network
    _flag("-p --publish", "[IP:][HOST:]PORT[/PROTO]", "publish a port"),
    _flag("-P --publish-all", None, "publish all exposed ports"),
    _flag("--expose", "PORT[/PROTO]", "say that it listens there"),
    _flag("--add-host", "NAME:ADDRESS", "add a line to /etc/hosts"),
    _flag("--dns", "ADDRESS", "a name server for /etc/resolv.conf"),
    _flag("--dns-search", "DOMAIN", "a domain to search"),
    _flag("--dns-opt --dns-option", "OPTION", "an option of resolv.conf(5)"),
    # Limits
    *RESOURCE_FLAGS,
    _flag("--memory-swappiness", "N", "how readily it is swapped out, 0 to 100 (cgroup v1)"),
    _flag("--blkio-weight-device", "DEVICE:N", "the weight for one device"),
    _flag("--device-read-bps", "DEVICE:BYTES", "limit reading from a device, a second"),
    _flag("--device-write-bps", "DEVICE:BYTES", "limit writing to a device, a second"),
    _flag("--device-read-iops", "DEVICE:N", "limit reads from a device, a second"),
    _flag("--device-write-iops", "DEVICE:N", "limit writes to a device, a second"),
    # Health and logs
    _flag("--health-cmd", "LINE", "what tells whether it is healthy"),
    _flag("--health-interval", "TIME", "between two checks (30s)"),
    _flag("--health-timeout", "TIME", "of one check (30s)"),
    _flag("--health-retries", "N", "failures until it is unhealthy (3)"),
    _flag("--health-start-period", "TIME", "in which failures do not count (0s)"),
    _flag("--health-start-interval", "TIME", "between two checks in that period (5s)"),
    _flag("--no-healthcheck", None, "check nothing, whatever the image says"),
    _flag("--log-driver", "NAME", "json-file or none"),
    _flag("--log-opt", "KEY=VALUE", "max-size and max-file"),
)

# `run` alone: how this command behaves, which no container remembers.
RUN_FLAGS: Final = (
    *FLAGS,
    _flag("-d --detach", None, "leave it running, and print its id"),
    Flag(("--sig-proxy",), None, "pass signals on to it (true)", standing=True),
)
