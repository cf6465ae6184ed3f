# SPDX-License-Identifier: GPL-3.0-or-later
"""A command tried out on a union over the machine's own root, and what becomes of its changes.

`record` is what a try is and where it is kept, `mounts` which file systems it covers, `stage` runs
the command, `changes` lists what it changed, `plan` orders that into steps, `carry` takes them,
`journal` remembers how far they came, `undo` takes them back.
"""
