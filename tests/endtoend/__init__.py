# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture that started it all, from the command line to the disc and back."""
