# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench: its arithmetic and reports by themselves, its runs on real mounts of small size."""
