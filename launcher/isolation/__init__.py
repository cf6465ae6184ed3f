# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a container apart, one module for each wall."""
