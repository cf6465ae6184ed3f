# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain system calls that the standard library does not offer; nothing of unions or FUSE."""
