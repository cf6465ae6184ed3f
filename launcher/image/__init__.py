# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: read-only layers and a configuration, by a name."""
