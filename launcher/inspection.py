# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is known of a container, in the form of docker's API (`GET /containers/ID/json`).

Names, nesting, order and what stands for "not set" are docker's, so that whatever reads docker's
answer reads this one. Fields that mean nothing here have the value that docker gives them on a
machine where they mean nothing either.
"""

from __future__ import annotations

import json
import os

from launcher import volumes
from launcher.documents import ABSENT_LIST, ABSENT_MAP, ABSENT_STRUCT, Absent, GoMap
from launcher.isolation import rootfs
from launcher.paths import Paths
from launcher.record import Record, RequestedMount
from launcher.rfc3339 import rfc3339
from launcher.spec import Resources
from launcher.state import Entry
from launcher.typed import Any, Final

__all__ = ["DRIVER", "inspected", "mounts_of"]

# What stands in the place of docker's storage driver.
DRIVER: Final = "lamina"
_STANDARD_PERIOD: Final = 100_000  # µs: what `--cpus` sets


def inspected(paths: Paths, entry: Entry, record: Record, *, sizes: bool = False) -> dict[str, Any]:
    """The document of one container; with `sizes` also how much its files are, to find out which
    takes time.
    """
    row = entry.row
    directory = os.fsdecode(paths.container(row.id))
    args = [_text(each) for each in record.args]
    own_files = record.network != "host" or os.path.exists(directory + "/hosts")
    document: dict[str, Any] = {
        "Id": row.id,
        "Created": rfc3339(row.created),
        "Path": args[0] if args else "",
        "Args": args[1:],
        "State": _state(paths, entry, record),
        "Image": "sha256:" + row.image_id,
        "ResolvConfPath": f"{directory}/resolv.conf" if own_files else "",
        "HostnamePath": f"{directory}/hostname" if own_files else "",
        "HostsPath": f"{directory}/hosts" if own_files else "",
        "LogPath": f"{directory}/log" if record.log.driver == "json-file" else "",
        "Name": "/" + row.name,
        "RestartCount": entry.running.restarts if entry.running else row.restarts,
        "Driver": DRIVER,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": record.selinux if record.selinux != "disable" else "",
        "AppArmorProfile": record.apparmor,
        "ExecIDs": ABSENT_LIST,
        "HostConfig": _host_config(record),
        "GraphDriver": {
            "Data": GoMap(
                LowerDir=":".join(_text(layer) for layer in record.layers),
                MergedDir=f"{directory}/merged",
                UpperDir=f"{directory}/upper",
                WorkDir=f"{directory}/work",
            ),
            "Name": DRIVER,
        },
        "Mounts": mounts_of(paths, record),
        "Config": _config(record),
        "NetworkSettings": _network(entry, record),
    }
    if sizes:
        document |= _sizes(paths, record)
    return document


def _text(value: bytes) -> str:
    return os.fsdecode(value)


def _sizes(paths: Paths, record: Record) -> dict[str, int]:
    from launcher.diskuse import content_size, layer_sizes

    own = content_size(paths.container(record.id) + b"/upper")
    layers = layer_sizes(paths, map(os.fsdecode, record.layers))
    return {"SizeRw": own, "SizeRootFs": own + sum(layers.values())}


def _state(paths: Paths, entry: Entry, record: Record) -> dict[str, Any]:
    row, running, status = entry.row, entry.running, entry.status
    up = status in ("running", "paused", "restarting")
    return {
        "Status": status,
        "Running": up,
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": bool(row.oom),
        "Dead": status == "dead",
        "Pid": running.pid if running is not None and up else 0,
        "ExitCode": 0 if status in ("running", "paused") else row.exit_code,
        "Error": row.error,
        "StartedAt": rfc3339((running.started if running is not None else 0) or row.started),
        "FinishedAt": rfc3339(row.finished),
        "Health": _health(paths, entry, record),
    }


def _health(paths: Paths, entry: Entry, record: Record) -> dict[str, Any] | Absent:
    if record.health is None or record.health.test[:1] in ((), ("NONE",)):
        return ABSENT_STRUCT
    found: dict[str, Any] = {}
    if entry.running is not None:
        # The supervisor writes it down beside running.json, in docker's terms but for the times.
        try:
            with open(paths.runtime(entry.row.id) + b"/health.json", "rb") as file:
                found = json.loads(file.read())
        except (OSError, ValueError):
            found = {"Status": entry.running.health or "starting"}
    results = [
        each | {"Start": rfc3339(each["Start"]), "End": rfc3339(each["End"])}
        for each in found.get("Log", ())
    ]
    return {
        "Status": found.get("Status", "unhealthy"),
        "FailingStreak": found.get("FailingStreak", 0),
        "Log": results,
    }


def _host_config(record: Record) -> dict[str, Any]:
    tmpfs = {
        each.destination: ",".join(each.options) for each in record.mounts if each.kind == "tmpfs"
    }
    hidden = record.systempaths and not record.privileged
    log = {}
    if record.log.max_size:
        log = {"max-size": str(record.log.max_size), "max-file": str(record.log.max_file)}
    elif record.log.max_file > 1:
        log = {"max-file": str(record.log.max_file)}
    return {
        "Binds": _list(_bind(each) for each in record.mounts if each.kind != "tmpfs"),
        "ContainerIDFile": "",
        "LogConfig": {"Type": record.log.driver, "Config": GoMap(log)},
        "NetworkMode": record.network,
        "PortBindings": _port_bindings(record),
        "RestartPolicy": {"Name": record.restart.name, "MaximumRetryCount": record.restart.most},
        "AutoRemove": record.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": ABSENT_LIST,
        "ConsoleSize": [0, 0],
        "CapAdd": _list(record.cap_add),
        "CapDrop": _list(record.cap_drop),
        "CgroupnsMode": record.cgroupns or "private",
        "Dns": list(record.dns),
        "DnsOptions": list(record.dns_options),
        "DnsSearch": list(record.dns_search),
        "ExtraHosts": _list(record.extra_hosts),
        "GroupAdd": _list(record.group_add),
        "IpcMode": record.ipc or "shareable",
        "Cgroup": "",
        "Links": ABSENT_LIST,
        "OomScoreAdj": record.oom_score_adj or 0,
        "PidMode": record.pid,
        "Privileged": record.privileged,
        "PublishAllPorts": False,
        "ReadonlyRootfs": record.read_only,
        "SecurityOpt": _list(_security(record)),
        **({"Tmpfs": GoMap(tmpfs)} if tmpfs else {}),
        "UTSMode": record.uts,
        "UsernsMode": record.userns,
        "ShmSize": record.shm_size,
        **({"Sysctls": GoMap(record.sysctls)} if record.sysctls else {}),
        "Runtime": DRIVER,
        "Isolation": "",
        **_resources(record),
        "MaskedPaths": [_text(each) for each in rootfs.MASKED] if hidden else [],
        "ReadonlyPaths": [_text(each) for each in rootfs.READONLY] if hidden else [],
        **({"Init": True} if record.init else {}),
        **({"Annotations": GoMap(record.annotations)} if record.annotations else {}),
    }


def _resources(record: Record) -> dict[str, Any]:
    limits: Resources = record.resources
    # `--cpus` is a quota of the standard period, and docker shows it as NanoCpus alone.
    in_cpus = bool(limits.cpu_quota) and limits.cpu_period == _STANDARD_PERIOD
    swap = limits.memory_swap
    if swap is None:
        swap = 2 * limits.memory if limits.memory else 0
    return {
        "CpuShares": limits.cpu_shares or 0,
        "Memory": limits.memory or 0,
        "NanoCpus": (limits.cpu_quota or 0) * 10_000 if in_cpus else 0,
        "CgroupParent": "",
        "BlkioWeight": limits.blkio_weight or 0,
        "BlkioWeightDevice": [
            {"Path": f"{each.major}:{each.minor}", "Weight": each.weight}
            for each in limits.blkio_weight_device
        ],
        **{
            name: [{"Path": f"{each.major}:{each.minor}", "Rate": each.rate} for each in throttles]
            for name, throttles in (
                ("BlkioDeviceReadBps", limits.blkio_read_bps),
                ("BlkioDeviceWriteBps", limits.blkio_write_bps),
                ("BlkioDeviceReadIOps", limits.blkio_read_iops),
                ("BlkioDeviceWriteIOps", limits.blkio_write_iops),
            )
        },
        "CpuPeriod": 0 if in_cpus else limits.cpu_period or 0,
        "CpuQuota": 0 if in_cpus else limits.cpu_quota or 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": limits.cpuset_cpus or "",
        "CpusetMems": limits.cpuset_mems or "",
        "Devices": [
            {
                "PathOnHost": each.source,
                "PathInContainer": each.destination,
                "CgroupPermissions": each.access,
            }
            for each in record.devices
        ],
        "DeviceCgroupRules": _list(record.device_rules),
        "DeviceRequests": ABSENT_LIST,
        "MemoryReservation": limits.memory_reservation or 0,
        "MemorySwap": swap,
        "MemorySwappiness": limits.memory_swappiness,
        "OomKillDisable": limits.oom_kill_disable or None,
        "PidsLimit": limits.pids,
        "Ulimits": [_ulimit(each) for each in record.ulimits],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


def _ulimit(text: str) -> dict[str, Any]:
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")

    def value(word: str) -> int | str:
        return int(word) if word.lstrip("-").isdigit() else word

    return {"Name": name, "Hard": value(hard or soft), "Soft": value(soft)}


def _security(record: Record) -> list[str]:
    found = []
    if record.no_new_privileges:
        found.append("no-new-privileges")
    if record.seccomp:
        found.append("seccomp=" + record.seccomp)
    if record.apparmor:
        found.append("apparmor=" + record.apparmor)
    if record.selinux:
        found.append("label=" + record.selinux)
    if not record.systempaths:
        found.append("systempaths=unconfined")
    return found


def _list(values: Any) -> list[Any] | Absent:
    """A list, which docker leaves nil where nothing was said."""
    found = list(values)
    return found if found else ABSENT_LIST


# -- mounts ---------------------------------------------------------------------------------------

_PROPAGATION: Final = ("shared", "rshared", "slave", "rslave", "private", "rprivate")
# How lamina notes what a mount is made of; not what a person said.
_NOTES: Final = ("missing", "anonymous", "rbind", "bind")


def _said(mount: RequestedMount) -> list[str]:
    return [each for each in mount.options if each not in _NOTES]


def _bind(mount: RequestedMount) -> str:
    said = ",".join(_said(mount))
    return f"{mount.source}:{mount.destination}" + (f":{said}" if said else "")


def mounts_of(paths: Paths, record: Record) -> list[dict[str, Any]]:
    """What is mounted in it besides what every container has."""
    found = []
    for mount in record.mounts:
        if mount.kind == "tmpfs":
            continue
        is_volume = mount.kind == "volume"
        source = mount.source
        if is_volume:
            source = _text(volumes.data(paths, mount.source))
        modes = [each for each in mount.options if each in ("z", "Z", "ro", "nocopy")]
        propagation = next((each for each in mount.options if each in _PROPAGATION), "")
        found.append(
            {
                "Type": mount.kind,
                **({"Name": mount.source} if is_volume else {}),
                "Source": source,
                "Destination": mount.destination,
                **({"Driver": "local"} if is_volume else {}),
                "Mode": ",".join(modes),
                "RW": "ro" not in mount.options,
                "Propagation": propagation or ("" if is_volume else "rprivate"),
            }
        )
    return found


# -- the image's side -----------------------------------------------------------------------------


def _config(record: Record) -> dict[str, Any]:
    args = [_text(each) for each in record.args]
    attach = record.attach
    anonymous = [
        each.destination
        for each in record.mounts
        if each.kind == "volume" and "anonymous" in each.options
    ]
    exposed = {each if "/" in each else each + "/tcp" for each in record.exposed}
    exposed |= {f"{each.container}/{each.protocol}" for each in record.ports}
    health = record.health
    return {
        "Hostname": record.hostname or record.id[:12],
        "Domainname": record.domainname,
        "User": record.user,
        "AttachStdin": "stdin" in attach,
        "AttachStdout": "stdout" in attach,
        "AttachStderr": "stderr" in attach,
        **({"ExposedPorts": GoMap({each: {} for each in exposed})} if exposed else {}),
        "Tty": record.tty,
        "OpenStdin": record.interactive,
        "StdinOnce": record.interactive and "stdin" in attach,
        "Env": [_text(each) for each in record.env],
        "Cmd": args[record.entrypoint :] or ABSENT_LIST,
        "Healthcheck": ABSENT_STRUCT
        if health is None
        else {
            "Test": list(health.test),
            **{
                name: value
                for name, value in (
                    ("Interval", health.interval),
                    ("Timeout", health.timeout),
                    ("StartPeriod", health.start_period),
                    ("StartInterval", health.start_interval),
                    ("Retries", health.retries),
                )
                if value
            },
        },
        "Image": record.image,
        "Volumes": GoMap({each: {} for each in anonymous}) if anonymous else ABSENT_MAP,
        "WorkingDir": _text(record.cwd),
        "Entrypoint": args[: record.entrypoint] or ABSENT_LIST,
        "OnBuild": ABSENT_LIST,
        "Labels": GoMap(record.labels),
        "StopSignal": _signal(record.stop_signal),
        "StopTimeout": record.stop_timeout,
    }


def _signal(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


# -- network --------------------------------------------------------------------------------------


def _port_bindings(record: Record) -> GoMap:
    found = GoMap()
    for port in record.ports:
        binding = {"HostIp": port.ip, "HostPort": str(port.host) if port.host else ""}
        found.setdefault(f"{port.container}/{port.protocol}", []).append(binding)
    return found


def _network(entry: Entry, record: Record) -> dict[str, Any]:
    ports = GoMap()
    if entry.running is not None and record.network not in ("none", "host"):
        ports = _port_bindings(record)
        for each in record.exposed:
            ports.setdefault(each if "/" in each else each + "/tcp", ABSENT_LIST)
    name = record.network.partition(":")[0]
    endpoint = {
        "IPAMConfig": None,
        "Links": ABSENT_LIST,
        "Aliases": ABSENT_LIST,
        "MacAddress": "",
        "DriverOpts": ABSENT_MAP,
        "GwPriority": 0,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": ABSENT_LIST,
    }
    return {
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": f"/proc/{entry.running.pid}/ns/net"
        if entry.running is not None and entry.running.pid
        else "",
        "Ports": ports,
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": ABSENT_LIST,
        "SecondaryIPv6Addresses": ABSENT_LIST,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": GoMap({name: endpoint}) if name in ("none", "host", "bridge") else GoMap(),
    }
