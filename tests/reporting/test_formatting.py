"""Text that tables, figures and page share."""

from __future__ import annotations

import re

import pytest

from gauntlet.reporting.formatting import (
    budget_text,
    decimal_text,
    escape_markdown,
    percent,
    percent_text,
    sentence,
    short_number,
    units_text,
)
from gauntlet.reporting.tables.cells import TableCell
from gauntlet.reporting.tables.published_lines import measured_text
from gauntlet.reporting.tables.wording import accuracy_text, spread_text


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


def test_large_budgets_are_counts_with_all_digits():
    """A budget in L0 is a number of values: 15000 and 12345 of an image of 150528."""
    assert [budget_text(value) for value in (1.0, 50, 999, 1000, 12345, 150528)] == [
        "1",
        "50",
        "999",
        "1000",
        "12345",
        "150528",
    ]
    assert [budget_text(value) for value in (8 / 255, 0.1, 0.0314, 2.5)] == ["8/255", "0.1", "0.0314", "2.5"]


def test_budgets_in_l0_are_no_pixel_units():
    """They are counts, which tables, page and figures say."""
    assert units_text(["linf", "l2"]) == "pixel units of [0, 1]"
    assert units_text(["l0"]) == "numbers of changed values"
    assert units_text(["l0", "linf"]) == "pixel units of [0, 1], in L0 numbers of changed values"


SHARES = {
    None: "–",
    0.0: "0.0",
    1.0: "100.0",
    0.9996: "99.96",
    0.999996: "99.9996",
    0.0004: "0.04",
    1 / 30000: "0.003",
    0.0005: "0.1",
    0.0006: "0.1",
    0.9994: "99.9",
    0.5: "50.0",
    # The mean of equal shares may differ from them by the rounding of float64.
    1e-16: "0.0",
    1 - 1e-16: "100.0",
}


@pytest.mark.parametrize("share", SHARES)
def test_only_none_and_all_are_printed_as_0_and_100_percent(share):
    """In tables, macros, page and published numbers: a reader takes 100.0 for every sample, and 0.0 for none."""
    row = {"robust_accuracy": share, "t_low": None, "wilson_low": 0.0, "wilson_high": 1.0}
    cell, measured = TableCell(share), None if share is None else 100 * share
    published = {"measured": measured, "unit": "%"}
    texts = {percent_text(share), percent(row).mean, measured_text(published)}
    assert texts | ({accuracy_text(cell)} if share is not None else set()) == {SHARES[share]}


def test_a_spread_is_zero_only_if_it_is():
    """Equal seeds have no spread, so that ± 0.0 would be seeds that are nearly equal."""
    row = {"robust_accuracy": 0.5, "t_low": 0.4999, "t_high": 0.5001, "wilson_low": 0.0, "wilson_high": 1.0}
    cell = TableCell(0.5, t_low=0.4999, t_high=0.5001)
    assert (percent(row).spread, spread_text(cell)) == ("± 0.01", "0.01")
    assert [decimal_text(value, digits=0) for value in (0.4, 0.0, 99.7, 100.0, 40.4)] == [
        "0.4",
        "0",
        "99.7",
        "100",
        "40",
    ]
