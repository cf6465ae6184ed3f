# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates of `--format`: the language of Go's text/template, as far as docker's users write it.

    render(parse("{{.ID}} {{json .Names}}"), {"ID": …, "Names": …})

All of the language is here but complex numbers and function values; the functions are Go's own and
docker's. What a value can be is said in `launcher.documents`. `tokens` cuts the text, `parser`
makes `nodes`, `evaluation` walks them; `functions` and `printing` are what templates call. Tables
are no part of this: they are in `launcher.cli.listing`.
"""
