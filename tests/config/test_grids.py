"""Grids: the variants that they make, their names, titles and factors, their quick forms, and every mistake."""

from __future__ import annotations

import copy
import math
import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.config import load
from gauntlet.config.grids import expand
from gauntlet.config.grids.places import label_of
from gauntlet.core.errors import InputError
from gauntlet.pipeline.graph import Graph
from gauntlet.pipeline.staleness import Staleness
from tests.support.stub_outputs import finish_cells, staleness_in
from tests.support.yaml_text import dump_yaml, parse_yaml

SMALL = """
experiments:
  small:
    dataset: {source: sklearn_digits}
    seeds: 2
    training: {epochs: 1}
    variants:
      plain: {model: cnn}
      "{activation}_{unit}_{beta}":
        axes:
          activation: [relu, {name: relog, beta: "{beta}"}]
          unit: [{label: "", value: linear}, {label: oval, value: {name: elliptical, increment: 0.01}}]
          beta: {when: {activation: relog}, levels: [1, 2.5]}
        except: [{activation: relu, unit: oval}]
        model: {name: vgg, depth: 4, activation: "{activation}", unit: "{unit}"}
      "{loss}-net":
        axes: {loss: [cross_entropy, {label: smooth, value: {name: cross_entropy, label_smoothing: 0.1}}]}
        model: {name: cnn, widths: [4]}
        loss: "{loss}"
    attacks:
      fgsm: {name: fgsm, norm: linf, epsilons: [0.1]}
      moved: {name: fgsm, norm: linf, epsilons: [0.1], transfer_from: relog_1}
"""

GRID = "{activation}_{unit}_{beta}"

NAMES = ["plain", "relu", "relog_1", "relog_2p5", "relog_oval_1", "relog_oval_2p5", "cross_entropy-net", "smooth-net"]

WRITTEN_OUT = {
    "plain": {"model": "cnn"},
    "relu": {"model": {"name": "vgg", "depth": 4, "activation": "relu", "unit": "linear"}},
    "relog_1": {"model": {"name": "vgg", "depth": 4, "activation": {"name": "relog", "beta": 1}, "unit": "linear"}},
    "relog_oval_2p5": {
        "model": {
            "name": "vgg",
            "depth": 4,
            "activation": {"name": "relog", "beta": 2.5},
            "unit": {"name": "elliptical", "increment": 0.01},
        }
    },
    "smooth-net": {
        "model": {"name": "cnn", "widths": [4]},
        "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
    },
}


@pytest.fixture
def content():
    """The configuration as plain values."""
    return parse_yaml(SMALL)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder, with the configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(SMALL)
    return tmp_path


def written(folder, content):
    """Write a configuration in place of the one of the folder; return its path."""
    file = folder / "config.yaml"
    file.write_text(dump_yaml(content))
    return file


def experiment(folder, content, name="small"):
    """Return an experiment of a configuration of plain values."""
    return load([written(folder, content)]).experiments[name]


def expanded(axes, name=None, template=None, **keys):
    """Expand one grid whose variants are its levels; return the expansion."""
    name = "_".join(f"{{{axis}}}" for axis in axes) if name is None else name
    template = {axis: f"{{{axis}}}" for axis in axes} if template is None else template
    return expand({"variants": {name: {"axes": axes, **keys, **template}}})


def test_a_grid_becomes_variants_in_its_place(folder):
    """Names, order and content are those of variants that are written out."""
    small = load([folder / "config.yaml"]).experiments["small"]
    assert list(small.variants) == NAMES
    assert small.seeds == (0, 1)
    made = expand(parse_yaml(SMALL)["experiments"]["small"]).experiment["variants"]
    assert {name: made[name] for name in WRITTEN_OUT} == WRITTEN_OUT


def test_variants_of_grids_have_the_recipes_of_variants_written_out(folder, content):
    """A grid and the same variants written by hand have the same cells, and neither makes the other stale.

    The factors are in the recipes of what is made of all cells together, and in no other.
    """
    recipes, with_factors = recipes_in(folder), recipes_in(folder, with_grids=True)
    small = content["experiments"]["small"]
    small["variants"] = expand(small).experiment["variants"]
    assert "axes" not in written(folder, content).read_text()
    assert recipes_in(folder) == recipes
    changed = {cell.stage.name for cell, recipe in with_factors.items() if recipe != recipes.get(cell)}
    # The page is made of these files, and its recipe has their digests.
    assert changed == {"aggregate", "figure", "table", "effects"}


def recipes_in(folder, *, with_grids=False):
    """Return the recipe of each cell of the folder's configuration, as far as it is known without files."""
    config = load([folder / "config.yaml"])
    for experiment in config.experiments.values():
        experiment.keep_grids(experiment.grids if with_grids else ())
    graph = Graph(config)
    staleness = Staleness(graph)
    return {cell: staleness.outline(cell).digest for cell in graph.cells()}


def test_a_new_level_makes_only_new_cells(folder, content):
    """Models and attacks of the other levels stay current."""
    finish_cells(folder)
    content["experiments"]["small"]["variants"][GRID]["axes"]["beta"]["levels"].append(3)
    written(folder, content)
    unfinished = {cell.variant for cell in staleness_in(folder).unfinished() if cell.variant}
    assert unfinished == {"relog_3", "relog_oval_3"}


VALUES = st.one_of(
    st.integers(), st.booleans(), st.none(), st.text(st.characters(exclude_characters="{}")), st.floats(), st.just([1])
)


@st.composite
def grids(draw):
    """Draw axes with labeled levels of any value, and partial combinations to exclude."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axes = {
        f"a{number}": [{"label": f"l{index}", "value": draw(VALUES)} for index in range(size)]
        for number, size in enumerate(sizes)
    }
    conditions = st.dictionaries(st.sampled_from(sorted(axes)), st.integers(0, 3), min_size=1, max_size=4)
    drawn = draw(st.lists(conditions, max_size=3))
    # A condition names levels that exist.
    limited = [{axis: f"l{min(level, len(axes[axis]) - 1)}" for axis, level in item.items()} for item in drawn]
    return axes, limited


@settings(max_examples=60, deadline=None)
@given(grid=grids(), only=st.booleans())
def test_a_grid_has_all_combinations_but_the_excluded_and_keeps_types(grid, only):
    """The number of variants is the product minus the exceptions; each value is its level's, of the same type."""
    axes, conditions = grid
    labels = [
        dict(zip(axes, chosen, strict=True)) for chosen in product(*([x["label"] for x in a] for a in axes.values()))
    ]
    met = [any(item.items() <= chosen.items() for item in conditions) for chosen in labels]
    kept = [chosen for chosen, is_met in zip(labels, met, strict=True) if is_met is (only and bool(conditions))]
    result = expanded(axes, **({"only" if only else "except": conditions} if conditions else {}))
    if not kept:
        assert "exclude every combination" in result.problems[0][1]
        return
    assert not result.problems
    (made,) = result.grids
    variants = result.experiment["variants"]
    assert list(variants) == ["_".join(chosen.values()) for chosen in kept] == list(made.variants)
    assert made.excluded == len(labels) - len(kept)
    values = {axis: {level["label"]: level["value"] for level in levels} for axis, levels in axes.items()}
    for chosen in kept:
        for axis, value in variants["_".join(chosen.values())].items():
            expected = values[axis][chosen[axis]]
            assert type(value) is type(expected)
            assert value == expected or (math.isnan(value) and math.isnan(expected))


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0.1, "0p1"),
        (-0.5, "m0p5"),
        (1e-5, "1em5"),
        (1e20, "1e20"),
        (2.0, "2"),
        (-3, "m3"),
        (True, "true"),
        (None, "none"),
        ("full_sort", "full_sort"),
        ("foolbox:DDNAttack", "foolbox-ddnattack"),
        ("my.nets:Wide", "my-nets-wide"),
        ("é", ""),
    ],
)
def test_labels_follow_from_values_by_a_fixed_rule(value, label):
    """The rule is part of the names of files, so it must not change."""
    assert label_of(value) == label


def test_a_place_in_a_longer_text_is_filled_as_text():
    """Scalars are written as in YAML; the place of an axis that does not exist is left out with its separator."""
    axes = {"a": [True, 0.5], "b": {"when": {"a": True}, "levels": [1e-5, "x"]}}
    result = expanded(axes, template={"path": "runs/{a}_{b}.pt", "list": ["{b}", "{a}"], "{a}": {"key": "{b}"}})
    assert result.experiment["variants"] == {
        "true_1em5": {"path": "runs/true_1e-05.pt", "list": [1e-5, True], "{a}": {"key": 1e-5}},
        "true_x": {"path": "runs/true_x.pt", "list": ["x", True], "{a}": {"key": "x"}},
        "0p5": {"path": "runs/0.5.pt", "list": [0.5], "{a}": {}},
    }


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("{a}_{b}_{c}", ["x_y", "y", "x", ""]),
        ("net_{a}{b}-{c}", ["net_x-y", "net-y", "net_x", "net"]),
        ("{b}_{a}_net_{c}", ["x_net_y", "net_y", "x_net", "net"]),
    ],
)
def test_levels_without_a_label_leave_their_place_out_of_the_name(name, names):
    """The separator before the place goes too; at the start of the name the one after it."""
    a, b, c = ([{"label": label, "value": 1}, {"label": "", "value": 2}] for label in ("x", "unused", "y"))
    result = expanded({"a": a, "b": b[1:], "c": c}, name=name)
    if "" in names:
        assert "is called ''; expected a name of lower-case letters" in result.problems[0][1]
    else:
        x_y, x, y, nothing = result.experiment["variants"]
        assert [x_y, y, x, nothing] == names


def test_titles_are_made_of_the_titles_of_levels(folder, content):
    """A title of the grid has places; without one the levels' titles are joined if any level sets one."""
    variants = content["experiments"]["small"]["variants"]
    variants[GRID]["title"] = "VGG, {activation}, β {beta}, {unit}"
    variants["{loss}-net"]["axes"]["loss"][1]["title"] = "Smooth labels"
    small = experiment(folder, content)
    assert {name: variant.title for name, variant in small.variants.items()} == {
        "plain": None,
        "relu": "VGG, relu, β, linear",
        "relog_1": "VGG, relog, β 1, linear",
        "relog_2p5": "VGG, relog, β 2.5, linear",
        "relog_oval_1": "VGG, relog, β 1, oval",
        "relog_oval_2p5": "VGG, relog, β 2.5, oval",
        "cross_entropy-net": "cross_entropy",
        "smooth-net": "Smooth labels",
    }


def test_the_levels_of_each_variant_are_kept(folder):
    """Factors: axis, label, value, title, order; an axis that does not exist for a variant is not among them."""
    small = load([folder / "config.yaml"]).experiments["small"]
    levels = small.levels_of("relog_oval_2p5")
    assert [(axis, level.label, level.title, level.order) for axis, level in levels.items()] == [
        ("activation", "relog", "relog", 1),
        ("unit", "oval", "oval", 1),
        ("beta", "2p5", "2.5", 1),
    ]
    assert levels["unit"].value == {"name": "elliptical", "increment": 0.01}
    assert list(small.levels_of("relu")) == ["activation", "unit"]
    assert small.levels_of("relu")["unit"].title == "linear"
    assert small.levels_of("plain") == {}
    assert [grid.name for grid in small.grids] == [GRID, "{loss}-net"]
    assert [grid.excluded for grid in small.grids] == [1, 0]


def test_a_quick_form_changes_grids_and_the_variants_that_they_make(folder, content):
    """A grid is changed by its name, a variant by its own; null removes either."""
    content["experiments"]["small"]["quick"] = {
        "seeds": 1,
        "variants": {
            GRID: {"axes": {"beta": {"levels": [1, 4]}}, "model": {"depth": 11}},
            "{loss}-net": None,
            "relog_oval_4": None,
            "relog_4": {"model": {"depth": 13}},
        },
    }
    quick = experiment(folder, content, "small_quick")
    depths = {name: variant.model.options.get("depth") for name, variant in quick.variants.items()}
    assert depths == {"plain": None, "relu": 11, "relog_1": 11, "relog_4": 13, "relog_oval_1": 11}
    assert [list(grid.variants) for grid in quick.grids] == [["relu", "relog_1", "relog_4", "relog_oval_1"]]
    assert list(load([folder / "config.yaml"]).experiments["small"].variants) == NAMES


A = {"axes": {"a": [1, 2]}, "model": {"name": "cnn", "widths": ["{a}"]}}
B = {"axes": {"b": [2]}, "model": {"name": "cnn", "widths": ["{b}"]}}
MISTAKES = [
    (
        {"{a}": {**A, "axes": {"a": [1, 2], "b": [3]}}},
        r"{a}\.axes\.b: the axis is not used: the name has no place '{b}'",
    ),
    ({"{a}_{b}": {**A, "axes": {"a": [1], "b": [3]}}}, r"axes\.b: the axis is not used: no value has the place '{b}'"),
    ({"{a}_{c}": A}, r"{a}_{c}: the name's place '{c}' has no axis; known: a"),
    ({"{a}": {**A, "loss": "{los}"}}, r"{a}\.loss: the place '{los}' has no axis; known: a"),
    ({"{a}": {**A, "axes": {"a": ["{a}", 2]}}}, r"axes\.a\.0: a level can have places of axes below its own only"),
    (
        {"{a}": {"model": "cnn"}},
        r"{a}: the name has places, so it is a grid and needs the key `axes`, such as axes: {a:",
    ),
    ({"{a}": "cnn"}, r"{a}: a name with places is a grid, and needs a mapping with `axes`"),
    ({"name": A}, r"variants\.name: the name of a grid has a place '{axis}' for each axis"),
    ({"{a}": {**A, "axes": {}}}, r"axes: expected a mapping of axes to their levels, got an empty mapping"),
    (
        {"{a}": {**A, "axes": {"a": []}}},
        r"axes\.a: expected a list of levels, or {when: \.\.\., levels: \.\.\.}, got an em",
    ),
    ({"{a}": {**A, "axes": {"a": {"levels": 3}}}}, r"axes\.a\.levels: expected a list of levels, got 3"),
    ({"{a}": {**A, "axes": {"a": {"level": [1]}}}}, r"axes\.a\.level: unknown key; did you mean 'levels'"),
    ({"{a}": {**A, "axes": {"a": [[1]]}}}, r"axes\.a\.0: a level that is a list needs a label"),
    ({"{a}": {**A, "axes": {"a": [{"widths": 1}]}}}, r"axes\.a\.0: a level that is a mapping needs a label"),
    (
        {"{a}": {**A, "axes": {"a": [{"label": "x", "name": "y"}]}}},
        r"axes\.a\.0\.name: unknown key; a level has value,",
    ),
    ({"{a}": {**A, "axes": {"a": [{"label": "X", "value": 1}]}}}, r"axes\.a\.0\.label: expected a name of lower-case"),
    ({"{a}": {**A, "axes": {"a": ["é"]}}}, r"axes\.a\.0: no name can be made of 'é'; write {label: \.\.\., value: "),
    (
        {"{a}": {**A, "axes": {"a": [1, 1.0]}}},
        r"axes\.a\.1: two levels, 0 and 1, are called '1'; give one of them another",
    ),
    ({"{a}": {**A, "axes": {"a": [{"value": 1, "title": ""}]}}}, r"axes\.a\.0\.title: expected a text of one line"),
    ({"{a}": {**A, "except": [{"b": 1}]}}, r"{a}\.except\.0\.b: no axis 'b'; known: a"),
    ({"{a}": {**A, "only": [{"a": [1, 3]}]}}, r"{a}\.only\.0\.a: the axis 'a' has no level '3'; known: 1, 2"),
    ({"{a}": {**A, "except": [{"a": True}]}}, r"{a}\.except\.0\.a: the axis 'a' has no level 'true'"),
    (
        {"{a}": {**A, "except": [{}]}},
        r"{a}\.except\.0: expected a condition such as {axis: level}, got an empty mapping",
    ),
    (
        {"{a}": {**A, "except": {"a": 1}}},
        r"{a}\.except: expected a list of conditions such as {axis: level}, got a map",
    ),
    ({"{a}": {**A, "except": [{"a": [1, 2]}]}}, r"{a}: `except` and `only` exclude every combination"),
    (
        {"{a}_{b}": {**A, "axes": {"a": {"when": {"b": 1}, "levels": [1]}, "b": [1]}}},
        r"axes\.a\.when\.b: no axis 'b' above this one",
    ),
    (
        {"{a}{b}": {"axes": {"a": [1, 11], "b": [1, 11]}, "model": "{a}{b}"}},
        r"{a}{b}: two combinations are called '111': a 1, b 11, and a 11, b 1; set a `label`",
    ),
    (
        {"{a}_{b}": {"axes": {"a": [1], "b": {"when": {"a": 1}, "levels": [2]}}, "except": [{"a": 1}], "x": "{a}{b}"}},
        r"{a}_{b}: `except` and `only` exclude every combination",
    ),
    ({"{a}": A, "2": {"model": "cnn"}}, r"2: the grid '{a}' makes a variant of this name too; rename one of them"),
    ({"{a}": A, "{b}": B}, r"{b}: it makes '2', and so does '{a}'; rename one"),
    (
        {"{a}": {**A, "axes": {"a": [{"label": "l", "value": [1]}]}, "x": "p{a}"}},
        r"{a}\.x: '{a}' is part of a longer te",
    ),
    ({f"{'n' * 70}{{a}}": A}, r"is called 'n{70}1'; expected a name of .* at most 64 characters"),
    ({"N{a}": A}, r"a 1 is called 'N1'; expected a name of lower-case letters"),
    ({"{a}": {**A, "axes": {"a": list(range(1, 60))}}}, r"{a}: the grid makes 59 variants, and 50 cells are allowed"),
    ({f"{{a}}{'_{b}' * 3}": {**A, "axes": {"a": list(range(2000)), "b": list(range(2000))}}}, "are alike"),
    (
        {"{a}_{b}": {"axes": {"a": list(range(2000)), "b": list(range(2000))}, "x": "{a}{b}"}},
        r"axes: the axes have more than 1000000 combinations; split the grid",
    ),
]


@pytest.mark.parametrize(("variants", "message"), MISTAKES, ids=[message[:50] for _, message in MISTAKES])
def test_a_mistake_of_a_grid_is_one_line_at_its_key(folder, content, variants, message):
    """The error names file, line and key, also where an attack refers to variants that are missing for it."""
    content["experiments"]["small"] |= {"variants": variants, "cells_at_most": 50}
    with pytest.raises(InputError) as caught:
        load([written(folder, content)])
    (line,) = str(caught.value).splitlines()
    assert re.search(message, line), line
    assert re.match(rf"{re.escape(str(folder))}/config\.yaml:\d+:\d+: experiments\.small\.variants\.", line), line
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("level", ["", "slim net"])
def test_a_condition_names_a_level_without_a_label_by_its_title_too(level):
    """A level may have neither a label nor a scalar value."""
    axes = {"w": [{"label": "", "value": [4, 8], "title": "slim net"}, {"label": "wide", "value": [8]}], "k": [1]}
    template = {"model": {"name": "cnn", "widths": "{w}", "kernel": "{k}"}}
    made = expanded(axes, "net_{w}_{k}", template, **{"except": [{"w": level}]})
    assert list(made.experiment["variants"]) == ["net_wide_1"]


def test_a_condition_that_holds_nowhere_is_refused():
    """It would be a silent mistake."""
    axes = {"a": [1, 2], "b": {"when": {"a": 1}, "levels": [3, 4]}}
    for key in ("only", "except"):
        (problem,) = expanded(axes, **{key: [{"a": 1}, {"a": 2, "b": 3}]}).problems
        assert problem[0][-2:] == (key, 1)
        assert problem[1].startswith("the condition holds for no combination")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("model", "name"), "vgh", "model.name: unknown model 'vgh'; did you mean 'vgg'?"),
        (("modle",), 1, "modle: unknown key; did you mean 'model'? (variants relu, relu_oval, relog_1 and 3 more)"),
        (
            ("axes", "activation", 0),
            "rellu",
            "axes.activation.0.name: unknown activation 'rellu'; did you mean 'relu'?",
        ),
        (
            ("axes", "unit", 1, "value", "increment"),
            -1,
            "axes.unit.1.value.increment: expected 0 or more, got -1 (variants relu_oval, relog_oval_1, relog_o",
        ),
        (
            ("axes", "beta", "levels", 1),
            "x",
            "axes.beta.levels.1: expected a number, got 'x' (variants relog_x, relog_oval_x)",
        ),
    ],
)
def test_a_mistake_in_a_variant_of_a_grid_is_reported_where_it_is_written(folder, content, place, value, message):
    """One line for all variants that have it: at the axis for a level, else in the grid, with the variants' names."""
    grid = content["experiments"]["small"]["variants"][GRID]
    content["experiments"]["small"]["attacks"].pop("moved")
    del grid["except"]
    node = grid
    *parents, last = place
    for key in parents:
        node = node[key]
    node[last] = value
    file = written(folder, content)
    with pytest.raises(InputError) as caught:
        load([file])
    (line,) = str(caught.value).splitlines()
    position, _, rest = line.removeprefix(f"{file}:").partition(": ")
    assert rest.startswith(f"experiments.small.variants.{GRID}.{message}")
    key = last if isinstance(last, str) else value
    assert "(variants " in rest
    assert str(key) in file.read_text().splitlines()[int(position.split(":")[0]) - 1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {
                "model": {"name": "cnn", "widths": ["{a}"]},
                "training": {"regularizers": ["{b}", {"name": "l2", "s": 1}]},
            },
            "{a}_{b}.training.regularizers.1.s: unknown key; ",
        ),
        ({"model": {"name": "cnn", "depth": "{a}"}, "loss": "{b}"}, "{a}_{b}.model.depth: unknown key; "),
    ],
)
def test_a_place_of_the_grid_is_found_in_lists_with_items_left_out_and_for_keys(folder, content, keys, message):
    """A list item keeps its index as written, and an unknown key is reported at the key, not at its value's level."""
    axes = {"a": [1, 2], "b": {"when": {"a": 1}, "levels": ["l1" if "training" in keys else "cross_entropy"]}}
    content["experiments"]["small"]["variants"] = {"{a}_{b}": {"axes": axes, **keys}}
    with pytest.raises(InputError) as caught:
        load([written(folder, content)])
    found = [line for line in str(caught.value).splitlines() if message in line]
    assert len(found) == 1
    assert re.search(r"\(variants 1_(l1|cross_entropy), 2\)$", found[0])


def test_too_many_cells_are_refused_unless_allowed(folder, content):
    """The limit counts variants × seeds × attacks, of experiments with grids only."""
    small = content["experiments"]["small"]
    small["seeds"] = 1000
    with pytest.raises(
        InputError, match=r"small\.variants: 8 variants with 8000 seeds together and 2 attacks are 16000"
    ):
        load([written(folder, content)])
    small["cells_at_most"] = 16_000
    load([written(folder, content)])
    del small["cells_at_most"], small["attacks"]["moved"]
    small["variants"] = {f"v{number}": {"model": {"name": "cnn", "widths": [number + 1]}} for number in range(11)}
    load([written(folder, content)])


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        (1, (0,)),
        (5, (0, 1, 2, 3, 4)),
        ([3, 1], (3, 1)),
        (0, None),
        (-2, None),
        (True, None),
        (2.0, None),
        (10**9, None),
    ],
)
def test_seeds_are_a_list_or_their_number(folder, content, seeds, expected):
    """5 is 0 to 4; anything but a positive integer or a list is refused."""
    content["experiments"]["small"]["seeds"] = seeds
    if expected is None:
        with pytest.raises(InputError, match=r"experiments\.small\.seeds: expected "):
            load([written(folder, content)])
    else:
        assert experiment(folder, content).seeds == expected


def test_attacks_refer_to_variants_of_grids(folder, content):
    """`transfer_from` takes the names that grids make, and `*` all of them."""
    small = content["experiments"]["small"]
    small["attacks"]["moved"]["transfer_from"] = "*"
    assert [f"moved_from_{name}" for name in NAMES] == list(experiment(folder, content).attacks)[1:]
    small["attacks"]["moved"]["transfer_from"] = "relog_3"
    with pytest.raises(InputError, match=r"moved\.transfer_from: no variant 'relog_3'; did you mean 'relog_1'"):
        experiment(folder, content)


def test_check_shows_each_grid_as_a_table(folder):
    """Levels per axis, the number of variants and of excluded combinations, names."""
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "small: 16 train, 30 evaluate, 0 certify, 16 diagnose, 8 inspect",
        "  {activation}_{unit}_{beta}: 5 variants, 1 excluded",
        "    activation  relu, relog",
        "    unit        linear (not in names), oval",
        "    beta        1, 2p5 (2.5)  where activation is relog",
        "    variants    relu, relog_1, relog_2p5, relog_oval_1, relog_oval_2p5",
        "  {loss}-net: 2 variants, 0 excluded",
        "    loss      cross_entropy, smooth",
        "    variants  cross_entropy-net, smooth-net",
    ]


def test_check_shows_a_variant_as_if_it_was_written_out(folder, content):
    """The YAML can be put in place of the grid; an unknown name is refused."""
    variants = {}
    for name in NAMES:
        output = CliRunner().invoke(app, ["check", "--show", name]).output
        assert output.startswith("# experiments.small.variants")
        variants |= parse_yaml(output)
    assert (
        "# experiments.small.variants: activation relog, unit oval, beta 1\n"
        in CliRunner().invoke(app, ["check", "--show", "relog_oval_1"]).output
    )
    plain = load([folder / "config.yaml"]).experiments["small"]
    content["experiments"]["small"]["variants"] = copy.deepcopy(variants)
    assert experiment(folder, content).as_dict() == plain.as_dict()
    refused = CliRunner().invoke(app, ["check", "--show", "relog_7"])
    assert isinstance(refused.exception, InputError)
    assert "no variant 'relog_7' in this configuration; did you mean 'relog_" in str(refused.exception)


def test_a_missing_checkpoint_of_a_grid_is_reported_where_it_is_written(folder, content):
    """One error per variant, at the grid's key or at the level, with the variant's name."""
    small = content["experiments"]["small"]
    del small["seeds"], small["attacks"]["moved"]
    axes = {"net": ["relu", "relog"], "file": [{"label": "", "value": "c.pt"}]}
    model = {"name": "mnist_cnn", "activation": "{net}"}
    small["variants"] = {
        "{net}": {"axes": {"net": ["a", "b"]}, "model": "cnn", "weights": "{net}.pt"},
        "{net}-c{file}": {"axes": axes, "model": model, "weights": "{file}"},
    }
    written(folder, content)
    refused = CliRunner().invoke(app, ["check"]).exception
    assert isinstance(refused, InputError)
    found = [line.partition("experiments.small.variants.")[2] for line in str(refused).splitlines()]
    assert [re.sub(r", or it cannot be read|; set the key.*", "", line) for line in found] == [
        "{net}.weights: there is no file 'a.pt' (variant a)",
        "{net}.weights: there is no file 'b.pt' (variant b)",
        "{net}-c{file}.axes.file.0.value: there is no file 'c.pt' (variant relu-c)",
        "{net}-c{file}.axes.file.0.value: there is no file 'c.pt' (variant relog-c)",
    ]
