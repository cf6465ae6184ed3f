# SPDX-License-Identifier: GPL-3.0-or-later
"""The core in process: `unionfs.Union` on real layers, without a mount."""
