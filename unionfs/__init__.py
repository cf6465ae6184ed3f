# SPDX-License-Identifier: GPL-3.0-or-later
"""A union filesystem: read-only layers below, one writable layer above, one tree to be seen.

Take a read-only data CD and an empty directory; union them; read the union and get the CD; edit in
it and the edits land in the directory. In code:

    config = unionfs.MountConfig(lower=(b"/cd",), upper=b"/edits", work=b"/.edits.work")
    unionfs.mount(config, unionfs.SessionConfig(mountpoint=b"/merged"))

Vocabulary
----------
layer      One directory tree of the stack. A *lower* layer is never written; the *upper* layer,
           of which there is at most one, takes every change.
work       A directory on the upper's filesystem, where objects are made before one rename puts
           them in their place.
merged     The tree that results, and the directory it is mounted on.
whiteout   A mark in a layer that says: this name is gone, whatever lies below.
opaque     A mark on a directory that says: nothing below is part of it.
copy-up    Bringing a lower object into the upper layer, at its first change.
redirect   A mark on a renamed directory that says under which name to look below.
origin     A mark on a copied-up object that says which lower object it was; its inode number
           comes from there.
index      Entries in work that keep the hard links of a lower file one file after copy-up.
metacopy   An upper file with metadata of its own whose content is still the lower one's.
node       One object of the merged tree as the kernel knows it; its *lookup count* is how many
           references the kernel was handed and has not yet forgotten.
backing    The real file of a layer that the kernel reads and writes by itself, where it can
file       (passthrough).
transport  The code that speaks to the kernel for a union: `device` or `pyfuse3`.

Architecture
------------
`Union` is the whole of the semantics: one synchronous verb for each file operation, in these terms,
raising OSError. It knows nothing of FUSE. A transport reads requests, calls one verb for each, and
writes the answers; it decides nothing. `config` says what a union is and how it is mounted,
`options` reads that from `-o` lists, `cli` from command lines. `fuse.session` chooses a transport
and serves, `fuse.daemon` does so in the background, `fuse.registry` remembers who serves what.
`changes`, `flatten` and `provenance` read the layers themselves, through stacks that never reach
the kernel.

Names are bytes from the kernel to the system call. Importing the package imports none of its rooms:
each public name below is loaded when it is first used.

Errors
------
A verb of `Union` raises OSError, and its errno is the answer to the kernel. What a person asked for
and cannot have is UnionError, whose text is one line: cannot do what, to what, and why.

Threads and waiting
-------------------
All verbs of one `Union` run on one thread, the one that serves. The data methods of `File` and
`CopyUp.copy` may run on others; they touch file content only, never the node table. Three rules
keep a daemon from waiting for itself:

- It never opens, stats or resolves a path in its own mount from the serving thread. What is mounted
  is read from /proc/self/mountinfo, which asks no filesystem.
- Layers are private clones of their mounts, or are refused where the mount point lies inside one.
- A notification that makes the kernel drop an inode or an entry may wait for requests on that inode
  to end, so none is sent by the thread that serves them.

`mount` forks, and is therefore called from a process without other threads.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as `typing` has it, which would be slow to load

if TYPE_CHECKING:
    from unionfs.changes import Change, diff
    from unionfs.cli import command_line
    from unionfs.cli.arguments import DEBUG as DEBUG_FLAG
    from unionfs.cli.arguments import HELP as HELP_FLAG
    from unionfs.cli.arguments import Arguments, Command, Flag
    from unionfs.cli.arguments import parse as parse_words
    from unionfs.config import MountConfig, SessionConfig
    from unionfs.content import copy_content
    from unionfs.errors import UnionError, UsageError
    from unionfs.flatten import FlatItem, Flattened
    from unionfs.fuse.daemon import start as mount
    from unionfs.fuse.session import run, serve
    from unionfs.fuse.unmount import unmount
    from unionfs.provenance import Explanation, explain
    from unionfs.union import NOW, Caller, CopyUp, File, Listing, Node, Stat, Union

__all__ = [
    "DEBUG_FLAG",
    "HELP_FLAG",
    "NOW",
    "Arguments",
    "Caller",
    "Change",
    "Command",
    "CopyUp",
    "Explanation",
    "File",
    "Flag",
    "FlatItem",
    "Flattened",
    "Listing",
    "MountConfig",
    "Node",
    "SessionConfig",
    "Stat",
    "Union",
    "UnionError",
    "UsageError",
    "command_line",
    "copy_content",
    "diff",
    "explain",
    "mount",
    "parse_words",
    "run",
    "serve",
    "unmount",
]

_ROOMS = {
    "DEBUG_FLAG": "cli.arguments:DEBUG",
    "HELP_FLAG": "cli.arguments:HELP",
    "NOW": "union",
    "Arguments": "cli.arguments",
    "Caller": "union",
    "Change": "changes",
    "Command": "cli.arguments",
    "CopyUp": "union",
    "Explanation": "provenance",
    "File": "union",
    "Flag": "cli.arguments",
    "FlatItem": "flatten",
    "Flattened": "flatten",
    "Listing": "union",
    "MountConfig": "config",
    "Node": "union",
    "SessionConfig": "config",
    "Stat": "union",
    "Union": "union",
    "UnionError": "errors",
    "UsageError": "errors",
    "command_line": "cli",
    "copy_content": "content",
    "diff": "changes",
    "explain": "provenance",
    "mount": "fuse.daemon:start",
    "parse_words": "cli.arguments:parse",
    "run": "fuse.session",
    "serve": "fuse.session",
    "unmount": "fuse.unmount",
}


if not TYPE_CHECKING:  # a checker sees the names above, and no others

    def __getattr__(name: str) -> object:
        room = _ROOMS.get(name)
        if room is None:
            raise AttributeError(f"module 'unionfs' has no attribute '{name}'")
        from importlib import import_module

        module, _, attribute = room.partition(":")
        value: object = getattr(import_module(f"unionfs.{module}"), attribute or name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
