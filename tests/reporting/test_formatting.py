"""Text that tables, figures and page share."""

from __future__ import annotations

import re

import pytest

from gauntlet.reporting.formatting import escape_markdown, sentence, short_number


@pytest.mark.parametrize("special", "\\`*_[]<>|#~$")
def test_characters_that_are_special_to_markdown_are_escaped(special):
    """Each has a backslash before it, and the text without these is the same."""
    escaped = escape_markdown(f"a{special}b{special}c")
    assert escaped == f"a\\{special}b\\{special}c"
    assert re.sub(r"\\(.)", r"\1", escaped) == f"a{special}b{special}c"


def test_ampersands_are_escaped_where_they_begin_an_entity():
    """`&lt;` would be printed as <; an ampersand between words is no markup."""
    assert escape_markdown("&lt; &#60; &amp;") == r"\&lt; \&\#60; \&amp;"
    assert escape_markdown("R&D && 5 % & more") == "R&D && 5 % & more"


def test_a_sentence_has_one_full_stop():
    """One is added unless the text ends a sentence."""
    assert [sentence(text) for text in ("Table 2", "Table 2.", "why?")] == ["Table 2.", "Table 2.", "why?"]


def test_large_distances_have_no_exponent():
    """Such as those in L0 and L1, which count pixels: 1234 would be 1.23e+03."""
    numbers = (0.0, 0.01234, 3.14159, 12.345, 999.4, 999.5, 999.9, 1234.5, 12345.6, None)
    assert list(map(short_number, numbers)) == [
        "0",
        "0.0123",
        "3.14",
        "12.3",
        "999",
        "1000",
        "1000",
        "1234",
        "12346",
        "–",
    ]
