# SPDX-License-Identifier: GPL-3.0-or-later
"""`loads` and `dumps` (and one word of `encoder`), as in the standard library's json.

The same compiled code does the work. `json` itself loads `re`, to skip the white space around a
value; what the compiled code does not take is given to it, to say what is wrong.
"""

from __future__ import annotations

TYPE_CHECKING = False

if not TYPE_CHECKING:
    __all__ = ["dumps", "encoder", "loads"]

    try:
        from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner
    except ImportError:  # an interpreter without them
        from json import dumps, encoder, loads
    else:

        class encoder:
            encode_basestring = staticmethod(encode_basestring)

        class _Rules:
            """How the scanner reads: json's defaults."""

            strict = True
            object_hook = None
            object_pairs_hook = None
            parse_float = float
            parse_int = int
            parse_constant = staticmethod(
                {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": -float("inf")}.get
            )

        _scan = make_scanner(_Rules)

        def loads(text):
            if not isinstance(text, str):
                text = str(text, "utf-8")
            bare = text.strip(" \t\n\r")
            try:
                value, end = _scan(bare, 0)
            except StopIteration:
                end = -1
            if end != len(bare):
                import json

                return json.loads(text)  # says what is wrong
            return value

        def dumps(value, *, separators=(", ", ": ")):
            def refuse(strange):
                raise TypeError(f"{type(strange).__name__} is not for JSON")

            item, key = separators
            encode = make_encoder(
                {}, refuse, encode_basestring_ascii, None, key, item, False, False, True
            )
            return "".join(encode(value, 0))
