# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of the project, one package per kind."""
