"""Errors of validation in plain words: what is expected at a key, and what was found there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic_core import ErrorDetails

KeyPath = tuple[str | int, ...]

UNKNOWN_KEY = "unknown key"
"""First words of a message about a key that its mapping does not have."""

_MAX_TEXT = 60
"""Characters of a value that a message shows."""

# Pydantic adds the alternatives of a type to a key path; they are no keys of the file.
_BRANCH = re.compile(r"(constrained-|function-|literal\[|nullable\[|tuple\[|list\[)")
_BRANCH_OF_OPTION = re.compile(rf"{_BRANCH.pattern}|(int|float|str|bool|none|dict\[.*)$")

_EXPECTED: Mapping[str, str] = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing_size": "an integer of 64 bits",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "string_unicode": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "none_required": "nothing",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "a number below {lt}",
    "less_than_equal": "{le} or less",
    "string_too_short": "{min_length} characters or more",
    "string_too_long": "{max_length} characters or fewer",
    "power_of_two": "a power of two, 2 or more",
}
"""Expected value by type of pydantic's error; braces name entries of the error's context."""

PATTERNS: Mapping[str, str] = {
    r"^[a-z0-9][a-z0-9_-]*$": "a name of lower-case letters, digits, '-' and '_' that begins with a letter or digit",
    r"^[^\s\x00-\x1f\x7f](.*[^\s\x00-\x1f\x7f])?$": "a text of one line, without spaces at its ends",
    r"^(auto|cpu|mps|cuda(:\d+)?)$": "auto, cpu, cuda or cuda:N",
    r"^(auto|off|[/$].*)$": "auto, off, or an absolute folder, which may begin with a variable such as $TMPDIR",
    r"^[A-Za-z0-9_.,@+-]+$": "a name as SLURM has it, or several separated by commas",
    r"^[A-Za-z0-9_.]+$": "a type as SLURM names it",
}
"""Description of a text that matches each pattern of the schema."""


def plain_errors(errors: Iterable[ErrorDetails], *, options: bool = False) -> Iterator[tuple[KeyPath, str]]:
    """Yield each error of a validation with its key path; the alternatives of a type are one error.

    With `options` the errors are of a component's options, whose types may be any; else of the schema's own.
    """
    branch = _BRANCH_OF_OPTION if options else _BRANCH
    found = list(errors)
    # Pydantic also reports a list as too short when one of its items is refused.
    deeper = {details["loc"][:-1] for details in found}
    merged: dict[tuple[KeyPath, int], list[tuple[KeyPath, ErrorDetails]]] = {}
    for number, details in enumerate(found):
        parts = details["loc"]
        if details["type"] == "too_short" and parts in deeper:
            continue
        key_path = (*parts[:1], *(part for part in parts[1:] if not branch.match(str(part))))
        # The paths of alternatives have parts that are no keys.
        group = (key_path, -1 if len(key_path) < len(parts) else number)
        merged.setdefault(group, []).append((key_path, details))
    for alternatives in merged.values():
        yield alternatives[0][0], _text(alternatives[0][0], [details for _, details in alternatives])


def found_text(value: Any) -> str:
    """Describe a value as a configuration file would write it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


def _text(key_path: KeyPath, alternatives: list[ErrorDetails]) -> str:
    details = alternatives[0]
    if details["type"] == "missing":
        return "an item is missing in the list" if isinstance(key_path[-1], int) else "this key is required"
    if details["type"] == "input":
        return str(details["msg"])
    expected = dict.fromkeys(map(_expected, alternatives))
    return f"expected {' or '.join(expected)}, got {found_text(details['input'])}"


def _expected(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind in ("too_short", "too_long"):
        count = context["min_length"] if kind == "too_short" else context["max_length"]
        items = f"{count} item{'' if count == 1 else 's'}"
        return f"{items} or more" if kind == "too_short" else f"at most {items}"
    if kind == "literal_error":
        return re.sub(r"\b(True|False)\b", lambda word: word[0].lower(), context["expected"])
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(context["pattern"], f"a text that matches {context['pattern']}")
    if kind in _EXPECTED:
        numbers = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
        return _EXPECTED[kind].format(**numbers)
    return str(details["msg"])
