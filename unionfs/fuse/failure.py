# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's edge: whatever went wrong becomes an errno, and nothing else leaves.

An `OSError` is the answer to the caller. Anything else is a mistake in this program: it is logged
with its traceback and answered EIO, and the daemon goes on.
"""

from __future__ import annotations

import errno


def errno_of(error: BaseException, doing: str) -> int:
    """The errno of an error, which is logged if it should not have happened."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    import logging

    logging.getLogger("unionfs").error(
        "unexpected %s in %s", type(error).__name__, doing, exc_info=error
    )
    return errno.EIO
