# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `run` and `create`: docker's flags, read into a `Record`.

`flags` has their names and help, `reading` puts a record together, and the other rooms each read
one kind of thing. Nothing is made here; files that flags name (--env-file, seccomp profiles) are
read, and devices looked at.
"""

from launcher.options.flags import FLAGS, RESOURCE_FLAGS, RESTART_FLAG, RUN_FLAGS
from launcher.options.reading import record_of

__all__ = ["FLAGS", "RESOURCE_FLAGS", "RESTART_FLAG", "RUN_FLAGS", "record_of"]
