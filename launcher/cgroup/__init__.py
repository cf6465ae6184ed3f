# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups: a container's limits, its accounts, and the certain end of all its processes."""
