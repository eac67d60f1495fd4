"""`training.gpus`, the number of processes of one training, which changes no result."""

from __future__ import annotations

import copy

import pytest

from gauntlet.config.schema import Config
from gauntlet.core.errors import InputError
from gauntlet.pipeline.staleness import Staleness
from tests.support.cells import make_cell
from tests.support.stub_outputs import CONFIG, staleness_in, write_config


def shared_plan(folder, *, gpus=2, variant=None, execution=None, training=None) -> Staleness:
    """Return the staleness of a configuration with several processes per training."""
    config = copy.deepcopy(CONFIG)
    config["execution"] = execution or {}
    config["experiments"]["small"]["training"] |= {"gpus": gpus, **(training or {})}
    config["experiments"]["small"]["variants"]["softmax"] |= variant or {}
    write_config(folder, config)
    return staleness_in(folder)


def test_the_number_of_processes_is_in_no_recipe(tmp_path, monkeypatch):
    """Neither the experiment's nor a variant's number of processes is part of a recipe."""
    monkeypatch.chdir(tmp_path)
    plans = [
        shared_plan(tmp_path, gpus=1),
        shared_plan(tmp_path, gpus=4),
        shared_plan(tmp_path, gpus=1, variant={"training": {"gpus": 2}}),
    ]
    for cell in (make_cell("train", "small", "softmax", 0), make_cell("report", "small")):
        assert len({str(staleness.outline(cell).as_dict()) for staleness in plans}) == 1
    assert plans[2].graph.experiment("small").training_of("softmax").gpus == 2
    assert plans[2].graph.experiment("small").training_of("ecc").gpus == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"variant": {"model": {"name": "lipschitz_cnn", "batch_lip_norm": True}, "loss": "hkr"}},
            r"variants\.softmax\.training\.gpus: batch_lip_norm computes statistics of a whole batch",
        ),
        ({"training": {"batch_size": 1}}, "2 processes cannot share 1 images"),
        ({"execution": {"device": "cuda:1"}}, r"execution\.device: cuda:1 is one device"),
    ],
)
def test_a_training_that_cannot_be_distributed_is_refused(tmp_path, settings, message):
    """`gauntlet check` refuses it with the reason; one process is accepted."""
    with pytest.raises(InputError, match=message):
        shared_plan(tmp_path, **settings)
    assert isinstance(shared_plan(tmp_path, **settings, gpus=1).graph.config, Config)


def test_batch_statistics_are_accepted(tmp_path):
    """Losses of batch statistics and batch normalization are: processes exchange what they need for the whole batch."""
    staleness = shared_plan(tmp_path, variant={"model": {"name": "vgg", "batch_norm": True}})
    assert staleness.graph.experiment("small").variants["lipschitz"].loss.name == "hkr"
