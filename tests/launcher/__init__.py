# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher: plans without privileges, and containers for real."""
