# SPDX-License-Identifier: GPL-3.0-or-later
"""One process per container, which outlives the command that started it.

The supervisor serves the container's union, makes its processes, holds its terminal or its log,
waits for its end, starts it again where it is to restart, and clears up. There is no daemon
besides. Commands fork it (`launcher.starting`) and speak to it (`launcher.control`).
"""
