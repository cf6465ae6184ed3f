# SPDX-License-Identifier: GPL-3.0-or-later
"""The oracle: one random history performed on several filesystems, which must not differ.

Vocabulary: a *target* is something operations are performed on (a plain directory, kernel
overlayfs, a union in process, a mounted union); the plain directory is the *model*; a *stack* is a
description of lower layers; a *trial* performs one history on the model and its *contenders*; a
*deviation* is a difference that is known, intended and explained.
"""
