# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench: the same work on lamina and on its peers, in one go, and a report one can trust.

Rooms
-----
- `options`, `__main__`: the command line (`script/bench`, `lamina bench`, `python -m bench`).
- `sizes`: how much work `quick`, `full` and `smoke` are.
- `ground`: the filesystem that all layers of a run lie on. `layers`: deterministic trees on it.
- `peers`: what is compared, each as a mount command. `session`: one mount of one peer, from the
  empty upper to the last trace removed. `processes`, `mounttable`: what both stand on.
- `client`: compiles client.c (the tight loop of the micro workloads) or takes client_fallback.py.
- `workloads/`: one module for each kind of work. A *scenario* is a stack of layers and the steps
  done on one mount of it; each step fills one *row* of the report.
- `run`: rounds, scenarios and peers in shuffled order. `results`: what was measured, as JSON.
- `statistics`, `bars`, `compare`: what the numbers mean. `report/`: Markdown and HTML.

Rules
-----
- Only one peer is mounted at a time, with a fresh upper, over layers that all peers share.
- The bench's own process never touches a mount under test: whatever might hang is a child with a
  time limit, and a peer that does not answer costs its own rows only.
- *Cold* means: a fresh mount, in which nothing was looked up before, over layers whose own entries
  and data the kernel has in its caches. It is the same for every peer. `--drop-caches` empties the
  kernel's caches before each mount as well; then cold includes the disc.
- All values are costs: less is better. Nothing is subtracted from what a clock said.

The bench drives what it measures through commands; it imports neither `unionfs` nor `launcher`.
"""
