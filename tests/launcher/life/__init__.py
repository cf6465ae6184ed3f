# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers through the command: their start, their streams, their end, and what is left."""
