"""Configurations of any content: no traceback, and what is accepted can be planned.

Valid configurations are changed at random places, then in random places of their text. `check` either accepts the
result, whose graph and recipes can then be built, or names file, line, column and key of each error in one line.
"""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml.error import YAMLError
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.config import load
from gauntlet.core.errors import InputError
from gauntlet.pipeline.graph import Graph
from gauntlet.pipeline.staleness import Staleness
from tests.support import ROOT
from tests.support.yaml_text import dump_yaml, parse_yaml

SMALL = """
experiments:
  first:
    dataset: {source: sklearn_digits, validation: half_of_test, test: 0.3, limit: {train: 90, test: 30}, seed: 3}
    seeds: [0, 7]
    samples: 20
    examples: 4
    headline: {linf: [0.1]}
    diagnostics: {enabled: true, samples: 10, steps: 4}
    training:
      epochs: 4
      batch_size: 32
      optimizer: {name: sgd, lr: 0.1, momentum: 0.9, nesterov: true}
      schedule: {name: step, milestones: [1, 3], factor: 0.5}
      warmup_epochs: 1
      patience: 2
      regularizers: [{name: l2, strength: 1e-4, start_epoch: 2}]
      augmentation: [flip, {name: rotation, degrees: 5}]
      recovery: {threshold: 0.4}
    variants:
      plain: {model: cnn, title: Plain}
      codes: {model: {name: cnn, widths: [8, 8], head: {name: ecc, heads: 4, hidden: 16}}, loss: hinge}
      logic:
        model: {name: vgg, depth: 4, unit: elliptical, activation: relog, first_modified: 2}
        training: {regularizers: [l1]}
      sigmoid:
        model: {name: mnist_cnn, head: sigmoid}
        loss: sigmoid_bce
        training: {negatives: {name: scrambling, blocks: [2, 3]}}
      robust: {model: cnn, training: {adversary: {name: pgd, norm: linf, epsilon: 0.1, steps: 2, warmup_epochs: 1}}}
      bounded: {model: {name: lipschitz_cnn, widths: [4, 4]}, loss: {name: hkr, alpha: 10}}
      "{activation}_{slope}-{width}":
        axes:
          activation: [relu, {name: relog, beta: "{slope}"}]
          slope: {when: {activation: relog}, levels: [1, 2.5]}
          width: [{label: "", value: 4, title: narrow}, {label: wide, value: 8}]
        except: [{slope: 2.5, width: wide}]
        only: [{width: [4, wide]}]
        title: "{activation} {slope} {width}"
        model: {name: mnist_cnn, widths: ["{width}", 4], activation: "{activation}"}
    attacks:
      fgsm: {name: fgsm, norm: linf, epsilons: [0.05, 0.1]}
      pgd: {name: pgd, norm: l2, steps: 4, restarts: 2, epsilons: [0.5], units: normalized, shards: 2, seed: 5}
      moved: {name: fgsm, norm: linf, epsilons: [0.1], transfer_from: "*", title: Transfer}
      ddn: {name: "foolbox:DDNAttack", steps: 3}
      ink: {name: jsma, theta: 1.0}
      random: {name: pgd, norm: linf, epsilons: [0.1], draws: 3}
    certificates: {lipschitz: {name: lipschitz}, smooth: {name: smoothing, sigma: 0.25, n: 100}}
    quick:
      seeds: 1
      attacks: {ddn: null}
      training: {batch_size: 16}
      variants: {relog_1-wide: null, "{activation}_{slope}-{width}": {axes: {width: [4, 6]}, except: [], only: []}}
  second: &second
    dataset: {source: sklearn_digits}
    allow_missing: true
    variants: {only: {model: cnn}}
execution:
  device: auto
  precision: float32
  attack_batch_size: 16
  scratch: /tmp
  cluster: {account: me, memory_mb: null, minutes: 9, sbatch: [--mail-type=END], controller_partition: "a,b"}
strict_environment: false
"""

BASES = (SMALL, (ROOT / "config.yaml").read_text())

PARSED = {base: parse_yaml(base) for base in BASES}

KEYS = sorted({key for base in BASES for key in re.findall(r"(\w+):", base)})

WORDS = ("", " ", "*", "auto", "null", "cnn", "l2", "../x", "$HOME", "a:b", "foolbox:", "no_module:Name", "ä", "\u2028")

TEXTS = st.one_of(st.sampled_from(WORDS), st.text(max_size=12), st.sampled_from(KEYS))
NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**400, 1e308, 5e-324, -0.0, 0.5, 1.0, 1.5]),
    st.integers(-3, 40),
    st.floats(allow_nan=True, allow_infinity=True),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.one_of(TEXTS, st.integers(0, 5)), inner, max_size=3),
    max_leaves=6,
)

SIGNS = ["'", '"', "\\", "[", "]", "{", "}", ",", ":", "-", "?", "#", "~", "@", "`", "%", "|", ">", "&", "*", "!"]

SPACES = ("\n", "\n  ", "\t", "  ", "\r", "\x85", "\ufeff", "\x00", ": ", "- ", "? ", "|\n", ">-\n", "---\n", "...\n")

NODES = ("%YAML 1.1\n", "&a ", "*a", "*second", "<<: *second", "!!int ", "! ")

SPELLINGS = ["0o17", "0x1F", "010", "1_000", "+1", ".5", "1e3", "12:30", "yes", "2026-01-01", ".nan", ".inf", "😀", "é"]
"""Scalars that versions of YAML read as different values."""

PIECES = st.sampled_from([*SIGNS, *SPACES, *NODES, *SPELLINGS])


def places(node, path=()):
    """Yield the path of every value below a mapping or list."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(content, draw):
    """Change one place of a configuration: another value, no value, another key, another nesting."""
    path = draw(st.sampled_from(list(places(content)) or [()]))
    if not path:
        return
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    change = draw(st.sampled_from(["nudge", "nudge", "nudge", "value", "remove", "rename", "wrap", "add", "copy"]))
    if change == "nudge" and isinstance(parent[key], bool | int | float):
        parent[key] = draw(st.sampled_from([not parent[key], parent[key] + 1, parent[key] * 2, parent[key] / 2, 1, 2]))
    elif change == "value":
        parent[key] = draw(VALUES)
    elif change == "remove":
        del parent[key]
    elif change == "rename" and isinstance(parent, dict):
        parent[draw(TEXTS | st.integers(0, 9))] = parent.pop(key)
    elif change == "wrap":
        parent[key] = draw(st.sampled_from([[parent[key]], {"name": parent[key]}, [parent[key], parent[key]]]))
    elif change == "add" and isinstance(parent[key], dict):
        parent[key][draw(TEXTS)] = draw(VALUES)
    elif change == "copy":
        source = content
        for step in draw(st.sampled_from(list(places(content)))):
            source = source[step]
        parent[key] = copy.deepcopy(source)


@st.composite
def configurations(draw):
    """Draw the text of a configuration: a valid one with some changes, of values and of text."""
    base = draw(st.sampled_from(BASES))
    content = copy.deepcopy(PARSED[base])
    for _ in range(draw(st.integers(0, 3))):
        changed(content, draw)
    try:
        text = dump_yaml(content) if draw(st.booleans()) or content != PARSED[base] else base
    except YAMLError:
        text = base
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 3]))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(PIECES | TEXTS) + text[start + draw(st.integers(0, 3)) :]
    return text


PYDANTIC = re.compile(r"Input should|pydantic|valid (integer|number|string|dictionary|tuple|list)|instance of")


def check_one(folder, text):
    """Check one configuration, and plan it if it is accepted."""
    file = Path(folder, "any.yaml")
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        config = load([file])
    except InputError as refusal:
        check_lines(refusal, file, last_line=len(re.split(r"\r\n|\r|\n", text)))
    else:
        check_plan(config)


def check_lines(refusal, file, last_line):
    """Check that each error is one plain line with its place."""
    for line in str(refusal).split("\n"):
        place = re.match(rf"{re.escape(str(file))}:(\d+):(\d+): .", line)
        assert place, line
        assert 1 <= int(place[1]) <= last_line, line
        assert line.isprintable(), repr(line)
        assert not PYDANTIC.search(line), line
        assert len(line) < 3000, line[:200]


def check_plan(config):
    """Check that the cells of a configuration, their files and their recipes are known."""
    graph = Graph(config)
    staleness = Staleness(graph)
    for cell in graph.cells():
        assert cell.outputs
        assert set(graph.inputs(cell).values()) <= set(graph.upstream(cell))
    for experiment in config.experiments:
        for cell in {cell.stage: cell for cell in graph.cells_of(experiment)}.values():
            assert staleness.outline(cell).digest


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    """Relative paths of a configuration lead nowhere."""
    monkeypatch.chdir(tmp_path)
    warnings.simplefilter("error")


def fuzz(examples):
    """Return the settings of a fuzz test."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, suppress_health_check=checks)


def test_the_bases_are_valid(tmp_path):
    """The changes start from configurations that `check` accepts."""
    for base in BASES:
        (tmp_path / "base.yaml").write_text(base)
        assert load([tmp_path / "base.yaml"]).experiments


@fuzz(30)
@given(text=configurations())
def test_any_configuration_is_planned_or_refused_line_by_line(tmp_path, text):
    """A few; a failure prints the text."""
    check_one(tmp_path, text)


@pytest.mark.slow
@fuzz(700)
@given(text=configurations())
def test_many_configurations_are_planned_or_refused_line_by_line(tmp_path, text):
    """Many."""
    check_one(tmp_path, text)


@fuzz(5)
@given(text=configurations())
def test_the_command_ends_with_0_or_2(tmp_path, text):
    """`gauntlet check` itself, in this process."""
    Path("any.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    done = CliRunner().invoke(app, ["check", "any.yaml"])
    assert done.exception is None or isinstance(done.exception, InputError), done.exception
