"""Options of a user's own components: they have any name, type and meaning, and checks of ours do not apply to them."""

from __future__ import annotations

import pytest

from gauntlet.config.loading import load
from gauntlet.core.errors import InputError
from gauntlet.pipeline.staleness import Staleness
from tests.support.yaml_text import dump_yaml

OWN = """
import torch

class Net(torch.nn.Module):
    def __init__(self, *, image_shape, num_classes, head="mlp", unit="lstm", folding="fold", widths=(), depth="b"):
        super().__init__()

class Adversary:
    def __init__(self, norm="linf", epsilon="8/255", step_size=None): ...

class Schedule:
    def __init__(self, milestones=None, warmup_epochs=None): ...

class Optimizer:
    def __init__(self, nesterov=True): ...

class Negatives:
    def __init__(self, blocks=None, pixels=False): ...

def attack(model, x, y, *, epsilon, step_size=9.0, targets=12, loss=None): ...
"""

ANY = (None, "8/255", [1], ["a", 1], {"a": 1}, True, -1, 1e9)


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Load a configuration of one variant and compute the recipes of its cells."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_components.py").write_text(OWN)

    def checked(variant, **keys):
        settings = {"dataset": {"source": "sklearn_digits"}, "variants": {"v": {"model": "cnn", **variant}}, **keys}
        file = folder / "config.yaml"
        file.write_text(dump_yaml({"experiments": {"e": settings}}))
        staleness = Staleness.of(load([file]))
        assert [staleness.outline(cell) for cell in staleness.graph.cells()]

    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(folder)
        yield checked


def own(name, **options):
    """Name a component of the user's module."""
    return {"name": f"own_components:{name}", **options}


def test_defaults_are_accepted(check):
    """A network with an option `head`, for one, has no component of that name."""
    training = {"adversary": own("Adversary"), "schedule": own("Schedule"), "optimizer": own("Optimizer")}
    attacks = {"a": own("attack", norm="linf", epsilons=[0.1])}
    check({"model": own("Net"), "training": training}, attacks=attacks)
    sigmoid = {"model": {"name": "cnn", "head": "sigmoid"}, "loss": "sigmoid_bce"}
    check({**sigmoid, "training": {"negatives": own("Negatives")}})


@pytest.mark.parametrize("value", ANY, ids=map(str, ANY))
def test_values_of_any_type_are_accepted(check, value):
    """They are the user's, and the component refuses what it cannot use."""
    network = own("Net", head=value, unit=value, folding=value, widths=value, depth=value)
    training = {
        "adversary": own("Adversary", epsilon=value, step_size=value),
        "schedule": own("Schedule", milestones=value, warmup_epochs=value),
    }
    attack = own("attack", norm="linf", epsilons=[0.1], step_size=value, targets=value, loss=value)
    check({"model": network, "training": training}, attacks={"a": attack})


def test_an_unknown_option_is_still_refused(check):
    """With those that the component has."""
    with pytest.raises(InputError, match=r"v\.model\.haed: unknown key; did you mean 'head'\?"):
        check({"model": own("Net", haed="mlp")})
