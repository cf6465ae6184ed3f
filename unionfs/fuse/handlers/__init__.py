# SPDX-License-Identifier: GPL-3.0-or-later
"""Handlers by theme: each translates a few kinds of request to verbs of `Union` and back.

A module holds one class over a `Device`; its `table` says which opcodes it serves. Handlers keep
the kernel's rules (what a reply promises, what must be refused how); what happens to the files is
the union's affair.
"""
