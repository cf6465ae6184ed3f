# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls that containers need and the standard library does not offer; all ctypes is here."""
