# SPDX-License-Identifier: GPL-3.0-or-later
"""How a union is shown to the kernel: one module a transport, each with `serve`.

A transport only translates: what a request does is decided by `unionfs.union.Union`. Importing
this package imports no transport, so that what one of them needs is asked for only where it runs.
"""
