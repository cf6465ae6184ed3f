# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m unionfs …`: the command line without an installed `lamina`."""

import sys

from unionfs.cli import command_line

if __name__ == "__main__":
    sys.exit(command_line())
