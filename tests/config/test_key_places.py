"""A key of the schema in the wrong mapping is refused with the place where it belongs."""

from __future__ import annotations

import re

import pytest

from gauntlet.config.loading import load
from gauntlet.config.reference import SECTIONS
from gauntlet.core.errors import InputError
from tests.support.yaml_text import dump_yaml

EXPERIMENT = {"dataset": "sklearn_digits", "variants": {"softmax": {"model": "cnn"}}}
OWN_PATHS = ("experiments.NAME", "execution", "execution.cluster")
INLINED = ("attack", "certificate")
"""Fields whose components are written as `name` and options."""


def message_of(folder, *, execution=None, experiment=None, top=None):
    """Return the error of a configuration with keys added to a mapping."""
    content = {"experiments": {"e": EXPERIMENT | (experiment or {})}, "execution": execution or {}, **(top or {})}
    file = folder / "config.yaml"
    file.write_text(dump_yaml(content))
    with pytest.raises(InputError) as error:
        load([file])
    return str(error.value)


def fields_by_place():
    """Return the keys of each mapping of the schema that the reference describes."""
    fields = {}
    for title, model, _ in SECTIONS[1:]:
        for name in re.findall("`([^`]+)`", title):
            path = name if name in OWN_PATHS else f"experiments.NAME.{name}"
            fields.setdefault(path, set()).update(set(model.model_fields) - set(INLINED))
    return fields


FIELDS = fields_by_place()


@pytest.mark.parametrize("place", FIELDS)
def test_each_key_of_the_schema_is_found_from_the_top_of_the_file(tmp_path, place):
    """A mapping that has it is named; the only one, if there is only one."""
    for key in FIELDS[place]:
        [line] = message_of(tmp_path, top={key: 1}).splitlines()
        assert f"{key}: unknown key; " in line
        named = re.search(rf"'{key}' is a key of `([^`]+)`", line)[1]
        holders = [path for path, keys in FIELDS.items() if key in keys]
        assert named in holders
        assert len(holders) > 1 or named == place


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            {"experiment": {"axes": {"a": [1]}}},
            "experiments.e.axes: unknown key; 'axes' is a key of `experiments.NAME.variants.NAME`; move it there",
        ),
        (
            {"execution": {"cluster": {"preload": True}}},
            "execution.cluster.preload: unknown key; 'preload' is a key of `execution`; move it there",
        ),
        (
            {"execution": {"cells_per_gpu": 2}},
            "execution.cells_per_gpu: unknown key; 'cells_per_gpu' is a key of `execution.cluster`; move it there",
        ),
        ({"experiment": {"execution": {}}}, "e.execution: unknown key; 'execution' is a key at the top of the file"),
        (
            {"experiment": {"epochs": 3}},
            "e.epochs: unknown key; 'epochs' is a key of `experiments.NAME.training` and of "
            "`experiments.NAME.variants.NAME.training`",
        ),
        (
            {"experiment": {"seed": 1}},
            "e.seed: unknown key; did you mean 'seeds'? 'seed' is a key of `experiments.NAME",
        ),
        (
            {"experiment": {"attacks": {"pgd": {"name": "pgd", "norm": "linf", "epsilons": [0.1], "device": "cpu"}}}},
            "'device' is a key of `execution`; move it there",
        ),
        (
            {"experiment": {"quick": {"epochs": 1}}},
            "e.quick.epochs: unknown key; 'epochs' is a key of `experiments.NAME.training` and",
        ),
    ],
)
def test_the_nearest_places_of_a_key_are_named(tmp_path, where, message):
    """From other mappings, from a component's options, and from a quick form; a similar key comes first."""
    [line] = message_of(tmp_path, **where).splitlines()
    assert message in line
