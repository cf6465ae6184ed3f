# SPDX-License-Identifier: GPL-3.0-or-later
"""From a container's record to what is started, by way of `launcher.specify`."""

from __future__ import annotations

import os

from launcher import plan, start
from launcher.cgroup.hierarchies import find, shown_inside
from launcher.isolation import capabilities, rootfs
from launcher.record import Record
from launcher.spec import ContainerSpec, Process, Resources, Root


def resources(record: Record) -> Resources:
    return record.resources._replace(devices=rootfs.DEVICE_RULES)


def process(record: Record) -> Process:
    return Process(
        args=record.args,
        env=record.env or (b"PATH=/usr/sbin:/usr/bin:/sbin:/bin",),
        cwd=record.cwd,
        terminal=record.tty,
        capabilities=capabilities.of_user(capabilities.DEFAULT, 0),
        init=record.init,
    )


def launch(
    record: Record,
    merged: bytes,
    stdio: tuple[int, int, int],
    terminal: int,
    size: tuple[int, int],
    *,
    rootless: bool,
) -> start.Launch:
    spec = ContainerSpec(
        process=process(record),
        root=Root(merged),
        hostname=record.id[:12].encode(),
        mounts=rootfs.default_mounts(),
        devices=rootfs.DEVICES,
        masked_paths=rootfs.MASKED,
        readonly_paths=rootfs.READONLY,
    )
    host = plan.Host(shown_inside(find()), rootless=rootless)
    return start.launch_of(spec, host, stdio, terminal)


def enter(
    record: Record,
    merged: bytes,
    started: start.Started,
    args: tuple[bytes, ...],
    stdio: tuple[int, int, int],
    terminal: int = -1,
    **options: object,
) -> start.Launch:
    made = process(record)._replace(args=args, terminal=terminal >= 0, init=False)
    return start.launch_into(started, made, None, stdio, terminal)
