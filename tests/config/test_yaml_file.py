"""Configuration files are YAML 1.2; every error in one is a line with file, line, column and key path."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gauntlet.config.loading import load
from gauntlet.config.yaml_file import read_yaml
from gauntlet.core.errors import InputError
from gauntlet.core.files import canonical_json
from tests.support import ROOT

DEFAULT = ROOT / "config.yaml"


def content_of(tmp_path, text):
    """Write a file and return the values that it holds."""
    file = tmp_path / "x.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(file).content


SCALARS = {
    "010": 10, "08": 8, "-08": -8, "+7": 7, "0o10": 8, "0x1F": 31, "0xff": 255, "0": 0,
    "1e3": 1000.0, "1e-3": 0.001, ".5": 0.5, "1.": 1.0, "-1.5E+2": -150.0, "08.5": 8.5,
    ".inf": math.inf, "-.INF": -math.inf, "+.Inf": math.inf,
    "true": True, "False": False, "TRUE": True,
    "~": None, "null": None, "NULL": None, "": None,
    "yes": "yes", "no": "no", "on": "on", "off": "off", "y": "y", "nUll": "nUll", "tRue": "tRue",
    "1_000": "1_000", "1:30": "1:30", "0b1": "0b1", "0o8": "0o8", "-0o7": "-0o7", "+0x1": "+0x1", "0X1": "0X1",
    "1e": "1e", ".": ".", "1.2.3": "1.2.3", "2026-11-28": "2026-11-28", "=": "=", "-.nan": "-.nan", "inf": "inf",
    "'010'": "010", '"1e3"': "1e3", "'~'": "~", '""': "", "'true'": "true", '"\\u00e9\\n"': "é\n",
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_scalars_follow_the_core_schema_of_yaml_1_2(tmp_path, text, value):
    """Type and value, for every form of the core schema and the forms of YAML 1.1 that are strings now."""
    found = content_of(tmp_path, f"a: {text}\n")["a"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_a_float(tmp_path):
    """`.nan` in its three spellings."""
    found = content_of(tmp_path, "a: [.nan, .NaN, .NAN]")["a"]
    assert all(math.isnan(value) for value in found)


def test_mappings_merge_by_anchor(tmp_path):
    """Own keys take precedence over merged ones, earlier merged mappings over later ones; also through two levels."""
    text = (
        "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: *b, x: 4, z: 5}\nd: {<<: [*b, *a]}\ne: {<<: {x: 6}, y: 7}\n"
    )
    own, merged = {"x": 1, "y": 2}, {"x": 1, "y": 3}
    expected = {"a": own, "b": merged, "c": {"x": 4, "y": 3, "z": 5}, "d": merged, "e": {"x": 6, "y": 7}}
    found = content_of(tmp_path, text)
    assert found == expected
    assert list(found["c"]) == ["x", "y", "z"]
    assert content_of(tmp_path, "a: {'<<': 3}") == {"a": {"<<": 3}}


def test_a_byte_order_mark_at_the_start_is_no_part_of_the_text(tmp_path):
    """Editors of Windows write one."""
    assert content_of(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)

REFUSED = [
    ("", "1:1: is empty"),
    ("# a comment\n", "1:1: is empty"),
    ("---\n", "2:1: is empty"),
    ("- a\n- b\n", "1:1: holds a list"),
    ("\njust words", "2:1: holds a str"),
    ("a: [1, 2", "1:9: is no plain YAML: "),
    ("a: 1\n\t- tab", "2:1: is no plain YAML: "),
    ("a: b: c", "1:5: is no plain YAML: mapping values are not allowed here"),
    ("a: 'open", "1:9: is no plain YAML: found unexpected end of stream"),
    ("a: 1\n---\nb: 2", "2:1: a configuration is one document"),
    ("%YAML 2.0\n---\na: 1", "1:1: is no plain YAML: found incompatible YAML document"),
    ("%YAML 1.3\n---\na: 1", "1:1: is no plain YAML after this: version minor part"),
    ("a: !!python/object/apply:os.system ['true']", "1:4: a: tags are not allowed"),
    ("a: [0, !!int '3']", "1:8: a.1: tags are not allowed"),
    ("a: ! 3", "1:4: a: tags are not allowed"),
    ("a: !x {}", "1:4: a: tags are not allowed"),
    ("!!set {a, b}", "1:1: tags are not allowed"),
    ("a: {b: 1,\n  b: 2}", "2:3: a: the key 'b' is given twice"),
    ("a: {1: 1, 0x1: 2}", "1:11: a: the key 1 is given twice"),
    ("a: {b: 1, 2: 3}", "1:11: a: the keys of a mapping are all names or all integers"),
    ("a: {true: 1}", "1:5: a: a key is a name or an integer"),
    ("a: {~: 1}", "1:5: a: a key is a name or an integer"),
    ("a: {1.5: 1}", "1:5: a: a key is a name or an integer"),
    ("? [a]\n: b", "1:3: a key is a name or an integer"),
    (f"{'? ' * 3000}a", "1:3: a key is a name or an integer"),
    ("a: &a [1]\nb: {*a : 2}", "2:5: b: a key is a name or an integer"),
    ("a: &a {1: 2}\nb: {<<: *a, c: 3}", "2:5: b: the keys of a mapping are all names or all integers"),
    ('a: {"b\\nc": 1}', "1:5: a: a key is a name or an integer, in one line"),
    ("a: &a {x: 1}\nb: {<<: *a, y: 1, y: 2}\n", "2:19: b: the key 'y' is given twice"),
    ("a: &a {x: 1}\nb: {<<: *a, <<: *a}\n", "2:13: b: the key '<<' is given twice"),
    ("a: {<<: 3}", "1:9: a: '<<' merges a mapping or a list of mappings"),
    ("a: &a [1]\nb: {<<: *a}", "2:9: b: '<<' merges a mapping or a list of mappings"),
    ("a: {<<: [{b: 1}, 2]}", "1:9: a: '<<' merges a mapping or a list of mappings"),
    ("a: {<<: }", "1:8: a: '<<' merges a mapping or a list of mappings"),
    ("a: *b", "1:4: a: no anchor &b ends before this alias"),
    ("a: &x [*x]", "1:8: a.0: no anchor &x ends before this alias"),
    ("a: &x {b: *x}", "1:11: a.b: no anchor &x ends before this alias"),
    ("a: &x {<<: *x}", "1:12: a.<<: no anchor &x ends before this alias"),
    (LAUGHS, "6:5: a5: its aliases expand to more than 1000000 values"),
    (f"a: {'[' * 200}{']' * 200}", "1:104: a.0.0: is nested more than 100 levels deep"),
    (f"a: {'9' * 5000}", "1:4: a: an integer has at most 64 bits"),
    (f"a: 0x{'f' * 17}", "1:4: a: an integer has at most 64 bits"),
    ("a: 1e999", "1:4: a: the number 1e999 is larger than any float"),
    ("a: 1\nb: \x07", "2:4: the character U+0007 is not allowed"),
    ("a: b\x00", "1:5: the character U+0000 is not allowed"),
    ("a: \ufeffb", "1:4: the character U+FEFF is not allowed"),
    ('a: "\\0"', "1:4: a: the character U+0000 is not allowed"),
    ('a: "\\e[31m"', "1:4: a: the character U+001B is not allowed"),
    ('a: "\\ud800"', "1:4: a: the character U+D800 is not allowed"),
    ('a: "\\UFFFFFFFF"', "1:1: is no plain YAML after this: "),
    (b"a: 1\nb: \xff\xfe\x00", "2:4: is no UTF-8 text"),
    ("a: 1".encode("utf-16"), "1:1: is no UTF-8 text"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, monkeypatch, text, message):
    """Empty, broken, tagged, recursive or ambiguous files: one line that begins with the position, and exit code 2."""
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        load([Path("x.yaml")])
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"x.yaml:{message}"), line
    assert caught.value.exit_code == 2


def test_a_file_that_is_absent_or_a_folder_is_refused(tmp_path):
    """A missing file and a folder are named."""
    for name, problem in (("absent.yaml", "No such file"), (".", "Is a directory")):
        with pytest.raises(InputError, match=rf"cannot be read: {problem}"):
            load([tmp_path / name])


def test_the_command_ends_with_code_2_and_no_traceback(tmp_path):
    """The command line prints the same line."""
    (tmp_path / "x.yaml").write_text("experiments: !!python/name:os.system")
    command = [sys.executable, "-m", "gauntlet", "check", "x.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = (done.stdout + done.stderr).splitlines()
    assert "x.yaml:1:14: experiments: tags are not allowed" in line


TEXT = """\
experiments:
  small:
    dataset: {source: sklearn_digits, validaton: 0.2}
    seeds: [0, -1]
    training: &training
      epochs: 0
    variants:
      a: {model: cnn}
      b:
        model: {name: cnn, head: {name: ecc, length: 12}}
        training: {<<: *training, batch_size: 0}
    attacks:
      pgd: {name: pgd, epsilons: [0.1]}
      each: {name: pgd, norm: linf, epsilons: [0.1], transfer_from: "*", stepz: 3}
execution:
  device: gpu
"""
POSITIONS = [
    "3:39: experiments.small.dataset.validaton: unknown key; did you mean 'validation'?",
    "4:16: experiments.small.seeds.1: expected 0 or more, got -1",
    "6:7: experiments.small.training.epochs: expected a number above 0, got 0",
    "10:46: experiments.small.variants.b.model.head.length: expected a power of two, 2 or more, got 12",
    "6:7: experiments.small.variants.b.training.epochs: expected a number above 0, got 0",
    "11:35: experiments.small.variants.b.training.batch_size: expected a number above 0, got 0",
    "13:7: experiments.small.attacks.pgd.norm: this key is required: pgd works in linf, l2, l1",
    "14:74: experiments.small.attacks.each.stepz: unknown key; did you mean 'steps'?",
    "16:3: execution.device: ",
]


def test_each_problem_has_the_position_of_its_key(tmp_path, monkeypatch):
    """An item; a merged key at its anchor; a missing key at its mapping; an attack from each variant at its key."""
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(TEXT)
    with pytest.raises(InputError) as caught:
        load([Path("x.yaml")])
    lines = str(caught.value).splitlines()
    assert len(lines) == len(POSITIONS), lines
    for line, position in zip(lines, POSITIONS, strict=True):
        assert line.startswith(f"x.yaml:{position}")


def test_a_missing_experiment_or_key_has_a_position(tmp_path):
    """Of the mapping that lacks it: the file, or the key above."""
    file = tmp_path / "x.yaml"
    file.write_text("\nexecution: {}\n")
    with pytest.raises(InputError, match=r"x\.yaml:2:1: experiments: this key is required"):
        load([file])
    file.write_text("experiments:\n  e:\n    variants: {v: {model: cnn}}\n")
    with pytest.raises(InputError, match=r"x\.yaml:2:3: experiments\.e\.dataset: this key is required"):
        load([file])


def test_the_position_is_that_of_the_file_with_the_problem(tmp_path):
    """Of several files."""
    (tmp_path / "a.yaml").write_text(DEFAULT.read_text())
    (tmp_path / "b.yaml").write_text(TEXT.replace("execution:\n  device: gpu\n", ""))
    with pytest.raises(InputError) as caught:
        load([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert all(line.startswith(f"{tmp_path}/b.yaml:") for line in str(caught.value).splitlines())


PIECES = st.lists(
    st.sampled_from(
        ["a", "b", ": ", ":", "- ", "? ", "[", "]", "{", "}", ", ", "\n", "\n  ", "\t", "&a ", "*a", "<<: ", "!!int ",
         "! ", "|\n", ">-\n", "'", '"', "\\", "\\x", "\\UFFFFFFFF", "\\ud800", "%YAML 1.3\n", "---\n", "...\n", "# ",
         "0x", "1", "1e", "9" * 5000, "\x00", "\ufeff", "\x85", "\u2028", "é", "~", "experiments: "]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)  # fmt: skip


def only_input_errors(file):
    """Load a file; where it is refused, each line names the file and a position."""
    try:
        config = load([file])
    except InputError as error:
        for line in str(error).split("\n"):
            assert re.match(rf"{re.escape(str(file))}:\d+:\d+: ", line), line
    else:
        canonical_json([experiment.as_dict() for experiment in config.experiments.values()])


FILES = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FILES
@given(PIECES, st.integers(0, DEFAULT.stat().st_size), st.booleans())
def test_no_text_gives_a_traceback(tmp_path, pieces, place, inserted):
    """Whatever the text, alone or in the default configuration."""
    default = DEFAULT.read_text()
    text = f"{default[:place]}{pieces}{default[place:]}" if inserted else pieces
    file = tmp_path / "x.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    only_input_errors(file)


def places(value, place=()):
    """Yield the place of every value below a value."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*place, key)
        yield from places(item, (*place, key))


def anything(**options):
    """Take any option, as a user's own network may."""


PLACES = list(places(read_yaml(DEFAULT).content))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64) + 1, 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)
    | st.sampled_from(["pgd:", "foolbox:", "foolbox:x", "a.b:c", ":", "*", "l2", "a\nb", "json:load", "x y"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abn_-x", min_size=1), inner, max_size=3),
)


@FILES
@given(st.sampled_from(PLACES), VALUES)
@example(
    ("experiments", "digits", "variants", "ecc", "model"),
    {"name": "tests.config.test_yaml_file:anything", "x": [math.inf]},
)
@example(("experiments", "digits", "attacks", "pgd", "surrogate"), "a\nb")
@example(("experiments", "digits", "attacks", "pgd", "name"), "json:loads")
def test_no_value_gives_a_traceback(tmp_path, place, value):
    """Whatever the value, at any place of the default configuration."""
    config = copy.deepcopy(read_yaml(DEFAULT).content)
    target = config
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    file = tmp_path / "x.yaml"
    text = json.dumps(config)
    file.write_text(text.replace("Infinity", ".inf").replace("NaN", ".nan"))
    only_input_errors(file)


def test_a_caller_may_change_what_it_has_read(tmp_path):
    """A text is parsed once, and each caller gets values of its own."""
    path = tmp_path / "config.yaml"
    path.write_text("a: {b: [1]}\n")
    read_yaml(path).content["a"]["b"].append(2)
    assert read_yaml(path).content == {"a": {"b": [1]}}
