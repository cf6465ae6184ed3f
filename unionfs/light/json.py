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
            end = -1
            try:
                bare = text if isinstance(text, str) else str(text, "utf-8")
                bare = bare.strip(" \t\n\r")
                value, end = _scan(bare, 0)
            except (StopIteration, UnicodeDecodeError):
                pass
            if end < 0 or end != len(bare):
                import json

                return json.loads(text)  # knows other encodings, or says what is wrong
            return value

        def dumps(value, *, separators=(", ", ": "), sort_keys=False, ensure_ascii=True):
            def refuse(strange):
                raise TypeError(f"{type(strange).__name__} is not for JSON")

            item, key = separators
            text = encode_basestring_ascii if ensure_ascii else encode_basestring
            encode = make_encoder({}, refuse, text, None, key, item, sort_keys, False, True)
            return "".join(encode(value, 0))
