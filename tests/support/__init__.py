# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests share: layers, mounts, users and system calls that the standard library lacks."""
