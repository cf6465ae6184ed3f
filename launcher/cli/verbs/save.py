# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina save`: images as an archive that lamina, docker, podman and skopeo load."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.errors import LaunchError
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina save",
    "[-o PATH] [--format docker-archive|oci-archive|oci-dir] [--compress KIND] IMAGE …",
    "write images to an archive, an OCI layout, or standard output",
    (
        Flag(("-o", "--output"), "PATH", "where to write, instead of standard output"),
        Flag(("--format",), "FORMAT", "docker-archive (the default), oci-archive or oci-dir"),
        Flag(("--compress",), "KIND", "compress OCI layers anew: gzip, zstd or none"),
        Flag(("-q", "--quiet"), None, "show no progress"),
        DEBUG_FLAG,
        HELP_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Save; a file that could not be written whole is not left behind."""
    from launcher.cli.outputs import output_file
    from launcher.cli.progress import Progress
    from launcher.image.saving import FORMATS, save
    from launcher.image.store import Store

    if not arguments.operands:
        raise UsageError("save", "", "say which images")
    images = [os.fsdecode(each) for each in arguments.operands]
    form = os.fsdecode(arguments.one("--format") or b"docker-archive")
    if form not in FORMATS:
        raise UsageError("save", form, "the format is docker-archive, oci-archive or oci-dir")
    compress = os.fsdecode(arguments.one("--compress") or b"keep")
    if compress not in ("keep", "gzip", "zstd", "none"):
        raise UsageError("save", compress, "compression is gzip, zstd or none")
    if compress != "keep" and form == "docker-archive":
        raise UsageError("save", compress, "layers of a docker archive are not compressed")
    how = {"keep": None, "none": ""}.get(compress, compress)
    output = arguments.one("--output")
    if output is None and (form == "oci-dir" or os.isatty(1)):
        raise UsageError("save", "", "say where with -o: standard output is no place for it")
    with (
        Store(context.paths) as store,
        Progress("save", silent=arguments.has("--quiet")) as progress,
    ):
        if form == "oci-dir":
            assert output is not None
            try:
                save(store, images, output, form, how, progress.update)
            except OSError as error:
                raise LaunchError("save to", output, error) from error
        elif output is None:
            sys.stdout.flush()
            save(store, images, 1, form, how, progress.update)
        else:
            with output_file(output, "save to") as fd:
                save(store, images, fd, form, how, progress.update)
    return 0
