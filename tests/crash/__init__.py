# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon killed at any instant loses nothing that was acknowledged."""
