# SPDX-License-Identifier: GPL-3.0-or-later
"""The style sheet of the page: readable in light and dark, on paper, and on a narrow screen."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fcfcfa; --ink: #1d1f21; --soft: #5c6166; --line: #dcdcd6; --shade: #f1f1ec;
  --good: #1b7340; --bad: #b3261e; --warn: #8a5a00;
  --peer0: #6b7075; --peer1: #1f5fbf; --peer2: #b35c00; --peer3: #7b3fa0; --peer4: #00796b;
  --peer5: #c2185b; --peer6: #5d8a00; --peer7: #8d4b32; --peer8: #0288a7; --peer9: #a08400;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16181a; --ink: #e6e6e3; --soft: #a2a7ab; --line: #34383c; --shade: #1f2225;
    --good: #6bd08f; --bad: #ff8a80; --warn: #f0c060;
    --peer0: #a9aeb3; --peer1: #7fb0ff; --peer2: #ffb066; --peer3: #cf9bf0; --peer4: #5fd0c0;
    --peer5: #ff86b3; --peer6: #b5dd5f; --peer7: #d9a28c; --peer8: #6fd3ee; --peer9: #e3cc5a;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1280px; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h1, h2, h3 { line-height: 1.25; } h3 { margin-top: 2rem; }
p, li { max-width: 75ch; }
.soft { color: var(--soft); }
.warning { border-left: 4px solid var(--warn); padding: .4rem .9rem; background: var(--shade); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { background: var(--shade); white-space: nowrap; }
td.number, .number { white-space: nowrap; }
td small { display: block; color: var(--soft); }
td .failed { color: var(--soft); font-style: italic; max-width: 26ch; white-space: normal; }
.pass { color: var(--good); font-weight: 600; } .miss { color: var(--bad); font-weight: 600; }
.unknown, .doubt { color: var(--warn); }
.key { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr));
  gap: 1.2rem; }
figure { margin: 0; padding: .7rem .8rem; border: 1px solid var(--line); border-radius: 6px; }
figcaption { font-weight: 600; } figcaption span { font-weight: 400; color: var(--soft); }
svg { width: 100%; height: auto; display: block; }
svg text { font: 11.5px system-ui, sans-serif; fill: var(--ink); }
svg .tick { fill: var(--soft); font-size: 10.5px; }
svg .grid { stroke: var(--line); }
summary { cursor: pointer; }
@media print { figure { break-inside: avoid; } details { display: block; } }
"""
