"""Plain scalars of YAML 1.2 in its core schema: ``010`` is 10, ``0o10`` is 8, ``1e3`` is a float, ``no`` is a string.

Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import math
import re
from typing import Any

_MAX_INTEGER_BITS = 64

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_BASES = {"0o": 8, "0x": 16}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
REFUSED_CHARACTERS = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""Control characters, byte order marks and halves of surrogate pairs, written or escaped."""


def plain_scalar(text: str) -> Any:
    """Return the value of a plain scalar in the core schema. Raises ValueError for a number that is too large."""
    if _NULL.fullmatch(text):
        return None
    if match := _BOOL.fullmatch(text):
        return match[1] is not None
    if _INTEGER.fullmatch(text):
        base = _BASES.get(text[:2], 10)
        # Python refuses to convert thousands of decimal digits, to and from text.
        if len(text) > 1000 or int(text, base).bit_length() > _MAX_INTEGER_BITS:
            raise ValueError(f"an integer has at most {_MAX_INTEGER_BITS} bits")
        return int(text, base)
    if _FLOAT.fullmatch(text):
        if math.isinf(number := float(text)):
            raise ValueError(f"the number {text[:20]} is larger than any float")
        return number
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text
