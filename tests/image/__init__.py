# SPDX-License-Identifier: GPL-3.0-or-later
"""The image store: archives to layers and back, what is kept, and what is refused."""
