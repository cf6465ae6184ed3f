# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of how a transport translates between the kernel and the union."""
