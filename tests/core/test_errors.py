"""Messages of errors."""

from __future__ import annotations

from gauntlet.core.errors import InputError, InputErrors, nearest, shortened


def test_all_known_names_are_listed_unless_there_are_very_many() -> None:
    """As the networks of a library, of which there are a thousand."""
    assert nearest("nothing", ["b", "a"]) == "known: a, b"
    assert nearest("b1", ["b1_x", "a"]) == "did you mean 'b1_x'?"
    assert nearest("zzz", map(str, range(1000))).endswith(" and 940 more")


def test_lists_are_shortened_to_the_first_names() -> None:
    """A list of a thousand classes has the first few and the number of the others."""
    assert shortened(range(3)) == "0, 1, 2"
    assert shortened(range(1000), most=2) == "0, 1 and 998 more"
    assert shortened(["x" * 100]) == "x" * 59 + "…"


def test_no_part_of_a_message_is_longer_than_a_page() -> None:
    """A message remains readable whatever a list in it contains."""
    error = InputError("x" * 20_000_000, where="y" * 5000, remedy="z" * 5000)
    assert len(str(error)) < 6100


def test_a_name_with_a_line_break_does_not_break_the_line() -> None:
    """Characters that cannot be printed are escaped, and a problem of several lines is joined."""
    assert str(InputError("is empty", where="a\nb\udcff.png")) == r"a\nb\udcff.png: is empty"
    assert str(InputError("no column 'a\nb'", remedy="set \x1b[31m")) == r"no column 'a b'; set \x1b[31m"
    assert shortened(["a\tb", "日本"]) == r"a\tb, 日本"


def test_several_errors_have_a_line_each() -> None:
    """The lines of several errors are all shown."""
    errors = InputErrors(InputError("is wrong", where=f"key {number}") for number in range(1000))
    assert str(errors).count("\n") == 999
    assert errors.problem == str(errors)
