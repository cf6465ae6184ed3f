# SPDX-License-Identifier: GPL-3.0-or-later
"""One module a verb, loaded when that verb runs.

Each has `COMMAND`, the words it takes, and `run(arguments, context)`, which gives the exit status.
A verb whose name Python keeps for itself has an underscore behind it. What a verb does lives in the
rooms of `launcher`; here words are read and lines printed.
"""
