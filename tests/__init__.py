# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of the project, one package per kind."""

import pytest

pytest.register_assert_rewrite("tests.support", "tests.posix")
