"""Components of the user, named by import path: found in every branch, and imported from the module that is named."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from gauntlet.core.errors import InputError
from gauntlet.pipeline.stages.components import modules_of
from gauntlet.registry import MODELS, Spec
from gauntlet.registry.source_code import forget_search


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, with a module that defines a class."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "defining_module.py").write_text("class Net:\n    width = 4\n")
    importlib.invalidate_caches()
    forget_search()
    return tmp_path


def test_the_module_of_an_import_path_is_imported_itself(folder: Path) -> None:
    """It may change the class that it imports; so it is also part of the recipe."""
    (folder / "changing_module.py").write_text("from defining_module import Net as Own\nOwn.width = 64\n")
    assert MODELS.load("changing_module:Own").width == 64
    assert modules_of([(MODELS, Spec("changing_module:Own"))]) == ["defining_module", "changing_module"]
    assert modules_of([(MODELS, Spec("defining_module:Net"))]) == ["defining_module"]


CONDITIONAL = {
    "try": "try:\n    from no_such_module import Net\nexcept ImportError:\n    from defining_module import Net\n",
    "except": "try:\n    import no_such_module\nexcept ImportError:\n    class Net: ...\n",
    "try else": "try:\n    import ast\nexcept ImportError:\n    pass\nelse:\n    class Net: ...\n",
    "if": "import sys\nif sys.version_info >= (3, 0):\n    class Net: ...\nelse:\n    Net = None\n",
    "else": "import sys\nif sys.version_info < (3, 0):\n    Net = None\nelse:\n    from defining_module import Net\n",
}


@pytest.mark.parametrize("case", CONDITIONAL)
def test_a_definition_or_import_in_any_branch_is_found(folder: Path, case: str) -> None:
    """The import decides on the branch."""
    name = f"conditional_{case.replace(' ', '_')}"
    (folder / f"{name}.py").write_text(CONDITIONAL[case])
    assert MODELS.load(f"{name}:Net").__name__ == "Net"


def test_a_class_may_have_the_name_of_its_base(folder: Path) -> None:
    """The base is what the name meant before the class."""
    (folder / "base_of_same_name.py").write_text("class Net:\n    def __init__(self, *, width: int = 3): ...\n")
    (folder / "same_name.py").write_text("from base_of_same_name import Net\nclass Net(Net): ...\n")
    (folder / "own_base.py").write_text("class Net(Net): ...\n")
    assert [(option.name, option.default) for option in MODELS.entry("same_name:Net").options or ()] == [("width", 3)]
    assert MODELS.entry("own_base:Net").options is None


def test_a_default_that_is_no_literal_is_left_to_the_component(folder: Path) -> None:
    """It was passed on as its source text, such as the string WIDTH; quotients may be inside of others."""
    options = "a: int = WIDTH, b: float = 2 / 8, c: tuple = (1 / 2, 3), d: float = 1 / 0 if 0 else 2, e: int = 2 ** 3"
    (folder / "constants.py").write_text(f"WIDTH = 4\nclass Net:\n    def __init__(self, {options}): self.a = a\n")
    entry = MODELS.entry("constants:Net")
    assert entry.complete_options({}, mode="python") == {"b": 0.25}
    assert entry.complete_options({"a": 5}, mode="python") == {"a": 5, "b": 0.25}
    assert entry.describe_options() == "options: a, b (0.25), c, d, e"


def test_overloads_of_a_constructor_are_no_constructors(folder: Path) -> None:
    """The last definition is the one that is called."""
    text = "from typing import overload\nclass Net:\n    @overload\n    def __init__(self, first: int): ...\n"
    (folder / "overloaded.py").write_text(text + "    def __init__(self, *, width: int = 3): ...\n")
    assert [option.name for option in MODELS.entry("overloaded:Net").options or ()] == ["width"]


def test_a_name_imported_from_a_module_without_source_is_refused_with_that_module(folder: Path) -> None:
    """The message does not suggest the same name again."""
    (folder / "importing_module.py").write_text("from no_such_module import Net\n")
    with pytest.raises(InputError, match="importing_module imports 'Net' from no_such_module, where no source"):
        MODELS.entry("importing_module:Net")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0\n", r"ZeroDivisionError: division by zero \(raising_module.py, line 2\)"),
        ("import old_module\n", r"SyntaxError: .* \(old_module.py, line 1\)"),
    ],
    ids=["error", "syntax"],
)
def test_a_module_that_raises_when_imported_is_named_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    """With the file and line that raised, and no traceback."""
    (folder / "old_module.py").write_text('print "x"\n')
    (folder / "raising_module.py").write_text(f"class Net: ...\n{text}")
    monkeypatch.delitem(sys.modules, "raising_module", raising=False)
    forget_search()
    with pytest.raises(InputError, match=f"'raising_module:Net' cannot be imported: {message}"):
        MODELS.load("raising_module:Net")
