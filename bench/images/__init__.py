# SPDX-License-Identifier: GPL-3.0-or-later
"""What images cost to load and to run, and whether they come back from other tools as they went.

`loading` times `load` beside podman, `occupying` weighs containers on the disc, `roundtrips` sends
a nasty set of layers through podman and umoci, `trees` compares what comes back; `__main__` prints.
As everywhere in the bench, all are driven by their commands alone.
"""
