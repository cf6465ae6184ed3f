# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers on a union: the `lamina` command, and the rooms that start and watch containers.

Everything here reaches the union through the public names of `unionfs`, never through its rooms.
Importing this package imports nothing else; a verb's code is loaded when that verb runs.
"""
