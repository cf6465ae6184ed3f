# SPDX-License-Identifier: GPL-3.0-or-later
"""A full, failing or read-only layer: the errno reaches the caller, the tree stays whole."""
