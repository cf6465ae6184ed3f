# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container costs to start and to keep, with lamina and with its peers.

`engines` knows how each is asked, `starting` and `idling` measure, `__main__` prints. As everywhere
in the bench, all are driven by their commands alone.
"""
