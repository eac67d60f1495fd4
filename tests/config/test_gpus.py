"""`training.gpus`: how many processes share a training, which decides no result."""

from __future__ import annotations

import copy

import pytest

from gauntlet.config import Cell
from gauntlet.config.schema import Config
from gauntlet.core.errors import InputError
from gauntlet.pipeline.staleness import Plan
from tests.support.stub_outputs import CONFIG, plan_in, write_config


def configured(folder, *, gpus=2, variant=None, execution=None, training=None) -> Plan:
    """Plan a configuration whose trainings are shared."""
    config = copy.deepcopy(CONFIG)
    config["execution"] = execution or {}
    config["experiments"]["small"]["training"] |= {"gpus": gpus, **(training or {})}
    config["experiments"]["small"]["variants"]["softmax"] |= variant or {}
    write_config(folder, config)
    return plan_in(folder)


def test_the_number_of_processes_decides_no_result(tmp_path, monkeypatch):
    """No recipe has it, a variant's own neither."""
    monkeypatch.chdir(tmp_path)
    plans = [
        configured(tmp_path, gpus=1),
        configured(tmp_path, gpus=4),
        configured(tmp_path, gpus=1, variant={"training": {"gpus": 2}}),
    ]
    for cell in (Cell("train", "small", "softmax", 0), Cell("report", "small")):
        assert len({str(plan.outline(cell).as_dict()) for plan in plans}) == 1
    assert plans[2].experiment("small").training_of("softmax").gpus == 2
    assert plans[2].experiment("small").training_of("ecc").gpus == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"variant": {"model": {"name": "vgg", "batch_norm": True}}},
            r"variants\.softmax\.training\.gpus: batch_norm takes its statistics of a whole batch",
        ),
        ({"training": {"batch_size": 1}}, "2 processes cannot share 1 images"),
        ({"execution": {"device": "cuda:1"}}, r"execution\.device: cuda:1 is one device"),
        ({"execution": {"device": "mps"}}, "mps is one device"),
    ],
)
def test_what_cannot_be_shared_is_refused(tmp_path, settings, message):
    """By `gauntlet check`, with the reason; for one process it is all right."""
    with pytest.raises(InputError, match=message):
        configured(tmp_path, **settings)
    assert isinstance(configured(tmp_path, **settings, gpus=1).config, Config)


def test_batch_statistics_of_losses_are_shared(tmp_path):
    """Processes gather the outputs of the whole batch: every loss is right."""
    plan = configured(tmp_path)
    assert plan.experiment("small").variants["lipschitz"].loss.name == "hkr"
