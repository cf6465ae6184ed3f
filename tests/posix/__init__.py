# SPDX-License-Identifier: GPL-3.0-or-later
"""Conformance to the manual pages: one table of cases, run on every kind of tree."""
