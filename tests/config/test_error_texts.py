"""Messages about wrong types are in plain words."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gauntlet.config.error_texts import PATTERNS, found_text, plain_errors
from tests.support import ROOT


def test_every_pattern_of_the_schema_has_words():
    """A regular expression is no message."""
    sources = (path.read_text() for path in (ROOT / "src/gauntlet/config").glob("*.py"))
    found = {pattern for source in sources for pattern in re.findall(r"pattern=r\"([^\"]+)\"", source)}
    assert found
    assert found - set(PATTERNS) == set()


class Part(BaseModel):
    """Types as in the schema."""

    model_config = ConfigDict(strict=True, extra="forbid")
    count: int | str = Field(1, gt=0)
    names: tuple[int, int] = Field((1, 2), strict=False)


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ({"count": None}, [("count", "expected an integer or a text, got nothing")]),
        ({"names": [1]}, [("names.1", "an item is missing in the list")]),
        ({"names": [1, "x"]}, [("names.1", "expected an integer, got 'x'")]),
        ({"count": [1], "names": {}}, [("count", "expected an integer or a text, got a list")]),
    ],
)
def test_alternatives_of_a_type_are_one_error(value, messages):
    """Each key has one line, with all that it may be."""
    with pytest.raises(ValidationError) as refused:
        Part.model_validate(value)
    found = [(".".join(map(str, path)), text) for path, text in plain_errors(refused.value.errors(), options=True)]
    assert found[: len(messages)] == messages


def test_values_are_shown_as_a_file_has_them():
    """Long ones are cut."""
    shown = [found_text(value) for value in (None, True, 1.5, "a", [], [1], {}, {"a": 1})]
    wanted = ["nothing", "true", "1.5", "'a'", "an empty list", "a list", "an empty mapping", "a mapping"]
    assert shown == wanted
    assert len(found_text("x" * 1000)) < 70
