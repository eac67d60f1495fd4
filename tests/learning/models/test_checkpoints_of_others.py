"""Checkpoints of any origin: read without executing anything, found wherever nested, all or nothing loaded."""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.provenance.digests import digest_file, digest_user_file
from gauntlet.learning.models.build import build
from gauntlet.learning.models.checkpoint.loading import load_weights
from gauntlet.learning.models.checkpoint.reading import read_checkpoint
from gauntlet.learning.models.weights import save_model
from gauntlet.pipeline.stages.train.adoption import load_network
from gauntlet.registry import Spec
from tests.support.user_networks import Plain

PREFIXES = ("", "module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module.", "_orig_mod.module.model.")
PREFIXES += ("net.", "encoder.backbone.")
PLACES = ((), ("state_dict",), ("model_state_dict",), ("model",), ("net",), ("checkpoint", "ema", "state_dict"))


class Wrapped(nn.Module):
    """Network that names its layers as wrappers do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.model, self.module = inner, nn.Linear(2, 2)


class Command:
    """Object whose pickle runs a command when it is loaded."""

    def __reduce__(self):
        return os.system, ("touch executed",)


class Settings(dict):
    """Mapping of a class of its own, as libraries for settings have."""


def network(seed=0, width=4):
    """Build a small network with random weights and statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Plain(1, 3, width=width)
        made.layers[1].running_mean.normal_()
        return made


def nested(state, keys):
    """Nest a state dict below keys, next to what checkpoints keep too."""
    for key in reversed(keys):
        state = {key: state, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "lr": 0.1}}
    return state


def spelled(module, prefix):
    """Return a module's state dict with a prefix before every name."""
    return OrderedDict((prefix + name, tensor) for name, tensor in module.state_dict().items())


def are_equal(first, second):
    """Return whether two modules have the same state, bit for bit."""
    return all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("keys", PLACES, ids=".".join)
def test_weights_are_found_under_any_prefix_at_any_place(tmp_path, keys, prefix):
    """Every combination loads the same bits, BatchNorm statistics too."""
    file, loaded = tmp_path / "model.pt", network(1)
    torch.save(nested(spelled(network(), prefix), keys), file)
    assert load_weights(loaded, file) == ".".join(keys)
    assert are_equal(loaded, network())


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_a_network_whose_own_names_are_those_of_wrappers_is_loaded(tmp_path, prefix):
    """Names such as `model.layers` and `module.weight` are not mistaken for prefixes."""
    file, loaded = tmp_path / "model.pt", Wrapped(network(1))
    torch.save(spelled(Wrapped(network()), prefix), file)
    load_weights(loaded, file)
    assert are_equal(loaded.model, network())


def test_wrappers_inside_a_network_are_found(tmp_path):
    """`DataParallel` around the features only, as in the ImageNet example of torch, and a compiled part."""
    names = {
        name: name.replace("layers.", "layers.module.").replace("0.", "0._orig_mod.")
        for name in spelled(Plain(1, 3), "")
    }
    torch.save({names[name]: tensor for name, tensor in network().state_dict().items()}, tmp_path / "model.pt")
    loaded = network(1)
    load_weights(loaded, tmp_path / "model.pt")
    assert are_equal(loaded, network())


@pytest.mark.parametrize("form", ["safetensors", "zip", "before torch 1.6"])
def test_every_format_is_read(tmp_path, form):
    """The format is detected from the content, not from the name."""
    file, loaded = tmp_path / "weights", network(1)
    if form == "safetensors":
        safetensors.torch.save_file(spelled(network(), "module."), file)
    else:
        torch.save(network().state_dict(), file, _use_new_zipfile_serialization=form == "zip")
    load_weights(loaded, file)
    assert are_equal(loaded, network())


@pytest.mark.parametrize("form", ["zip", "before torch 1.6", "plain pickle"])
@pytest.mark.parametrize("setting", ["0", "1"])
def test_no_pickle_is_ever_executed(tmp_path, monkeypatch, form, setting):
    """A checkpoint that runs a command when it is unpickled is refused in one line, whatever torch's variables say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", setting)
    content, file = {"state_dict": network().state_dict(), "run": {"args": [Command()]}}, Path("evil.pt")
    if form == "plain pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(InputError, match=r"evil\.pt: contains more than tensors.*pickles are not executed") as error:
        load_weights(network(), file)
    assert "\n" not in str(error.value)
    assert not Path("executed").exists()
    if form == "plain pickle":
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert Path("executed").exists(), "the file must be able to run its command"


OBJECTS = {
    "torch.nn.modules.linear.Linear": nn.Linear(2, 2),
    "argparse.Namespace": argparse.Namespace(lr=0.1),
    "numpy._core.multiarray.scalar": np.float64(0.9),
    f"{__name__}.Settings": Settings(lr=0.1),
    "pathlib.PosixPath": Path("data"),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("name", OBJECTS)
def test_a_file_of_objects_is_refused_by_the_name_of_their_class(tmp_path, name, zipped):
    """Alone and deep in the file; the remedy, in the same line, is to save the state dict."""
    for content in (OBJECTS[name], {"state_dict": network().state_dict(), "run": {"logs": [1, OBJECTS[name]]}}):
        torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(InputError, match=rf"\({re.escape(name)}\): pickles .*model\.state_dict\(\)") as error:
            load_weights(network(), tmp_path / "model.pth")
        assert "\n" not in str(error.value)


BAD = {
    "empty": (b"", "is neither a safetensors file nor one of torch.save"),
    "text": (b"version https://git-lfs.github.com/spec/v1\n", "is neither a safetensors file"),
    "torn zip": (b"PK\x03\x04torn", "is damaged or no file of torch.save"),
    "torn pickle": (b"\x80", "is damaged or no file of torch.save"),
    "torn safetensors": (b"\x02\0\0\0\0\0\0\0{ ", "is a damaged safetensors file"),
    "no tensors": (None, "the file holds no named tensors"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path, name):
    """A torn copy, a pointer of Git LFS, a file of plain values."""
    content, expected = BAD[name]
    file = tmp_path / "model.pt"
    torch.save({"epoch": 3}, file) if content is None else file.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_weights(network(), file)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    """Neither is a checkpoint."""
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            read_checkpoint(path)


def test_one_error_names_every_key_that_does_not_fit_and_nothing_is_loaded(tmp_path):
    """Missing, unexpected, of another shape, of another kind."""
    state = network().state_dict()
    state["head.weight"] = state.pop("layers.6.weight")
    state["layers.0.weight"], state["layers.0.bias"] = torch.zeros(4, 3, 3, 3), torch.zeros(4, dtype=torch.int64)
    torch.save({"model": state}, tmp_path / "model.pt")
    loaded = network(1)
    with pytest.raises(InputError) as error:
        load_weights(loaded, tmp_path / "model.pt")
    text = str(error.value)
    expected = ("'model' does not fit Plain", "1 missing: layers.6.weight", "1 unexpected: head.weight")
    expected += (
        "2 of another shape or kind: layers.0.weight (4x3x3x3 float32 in place of 4x1x3x3 float32)",
        "int64",
    )
    assert [part for part in expected if part not in text] == [], text
    assert "\n" not in text
    assert are_equal(loaded, network(1))


def test_averaged_weights_are_preferred_and_the_others_named(tmp_path, caplog):
    """As torch's `AveragedModel` saves them, with its counter; `entry` names the others."""
    averaged = torch.optim.swa_utils.AveragedModel(nn.DataParallel(network(1)))
    torch.save({"state_dict": network().state_dict(), "ema": averaged.state_dict()}, tmp_path / "model.pt")
    loaded = network(2)
    with caplog.at_level(logging.WARNING):
        assert load_weights(loaded, tmp_path / "model.pt") == "ema"
    assert are_equal(loaded, network(1))
    assert "'ema' are used; `entry` names others that fit: state_dict" in caplog.text
    assert load_weights(loaded, tmp_path / "model.pt", entry="state_dict") == "state_dict"
    assert are_equal(loaded, network())


def test_two_networks_in_a_file_are_not_guessed_between(tmp_path):
    """Unless they are the same; an entry may also be the beginning of names."""
    torch.save({"semantic": network().state_dict(), "teacher": network(1).state_dict()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"2 entries with different weights fit: semantic, teacher"):
        load_weights(network(), tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"no tensors at 'student'; `entry` may be semantic, teacher"):
        load_weights(network(), tmp_path / "model.pt", entry="student")
    both = {**spelled(network(), "student."), **spelled(network(1), "teacher.")}
    torch.save({"state_dict": both}, tmp_path / "model.pt")
    loaded = network(2)
    with pytest.raises(InputError, match="unexpected"):
        load_weights(loaded, tmp_path / "model.pt")
    load_weights(loaded, tmp_path / "model.pt", entry="state_dict.teacher")
    assert are_equal(loaded, network(1))
    torch.save({"best": network().state_dict(), "last": network().state_dict()}, tmp_path / "model.pt")
    load_weights(loaded, tmp_path / "model.pt")
    assert are_equal(loaded, network())


@pytest.mark.parametrize(
    "inside",
    [
        {**spelled(network(), "model."), "criterion.weight": torch.ones(3)},
        {**spelled(network(), "model.module."), **spelled(network(1), "ema_model.module.")},
        {**spelled(network(), "model."), "normalize.mean": torch.zeros(3)},
    ],
    ids=["weights of the loss", "averages", "normalization"],
)
def test_tensors_next_to_a_network_that_fits_are_named_with_the_entry_to_set(tmp_path, inside):
    """As in files of PyTorch Lightning; nothing is left out unless the user says so."""
    torch.save({"state_dict": inside}, tmp_path / "model.pt")
    loaded = network(2)
    with pytest.raises(InputError, match=r"unexpected: .*; set `entry` to a part of it that fits: state_dict\.model"):
        load_weights(loaded, tmp_path / "model.pt")
    load_weights(loaded, tmp_path / "model.pt", entry="state_dict.model")
    assert are_equal(loaded, network())


def test_state_dicts_in_a_list_are_found_by_position(tmp_path):
    """As the members of an ensemble; the tensors of an optimizer's list have no names."""
    content = {"models": [network().state_dict(), network(1).state_dict()], "moments": [torch.zeros(2)]}
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"2 entries with different weights fit: models\.0, models\.1"):
        load_weights(network(), tmp_path / "model.pt")
    loaded = network(2)
    load_weights(loaded, tmp_path / "model.pt", entry="models.1")
    assert are_equal(loaded, network(1))


def test_the_error_is_about_the_entry_that_fits_best(tmp_path):
    """Not about the tensors of an optimizer, which are fewer, so that fewer names do not fit."""
    other = {f"blocks.{number}.weight": torch.zeros(2) for number in range(12)}
    state = {"layers.0.weight": network().layers[0].weight, **other}
    torch.save({"optimizer": {"lr": torch.ones(1)}, "net": state}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"'net' does not fit Plain: 7 missing: .*12 unexpected"):
        load_weights(network(), tmp_path / "model.pt")


def test_weights_that_layers_share_have_one_name_in_safetensors(tmp_path):
    """`save_model` of safetensors leaves the other names out."""
    shared = [nn.Sequential(layer, nn.ReLU(), layer) for layer in (nn.Linear(2, 2), nn.Linear(2, 2))]
    safetensors.torch.save_model(shared[0], tmp_path / "model.safetensors")
    load_weights(shared[1], tmp_path / "model.safetensors")
    assert are_equal(*shared)


@pytest.mark.parametrize("convert", [torch.Tensor.half, torch.Tensor.bfloat16, torch.Tensor.double])
def test_counters_that_older_checkpoints_lack_are_not_missed(tmp_path, convert):
    """Files from before torch 0.4.1 have no `num_batches_tracked`, averages may have floats; weights are converted."""
    for names in ("", "tracked"):
        state = {
            name: convert(tensor) for name, tensor in network().state_dict().items() if not names or names not in name
        }
        torch.save(state, tmp_path / "model.pt")
        loaded = network(1)
        load_weights(loaded, tmp_path / "model.pt")
        assert torch.equal(loaded.layers[0].weight, convert(network().layers[0].weight).float())


def test_tensors_of_another_kind_are_named(tmp_path):
    """Sparse ones and those without values, whose shapes are right."""
    state = network().state_dict()
    state["layers.6.weight"], state["layers.0.bias"] = (
        state["layers.6.weight"].to_sparse(),
        torch.zeros(4, device="meta"),
    )
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"layers\.0\.bias \(4 meta float32 in place.*layers\.6\.weight \(\w+ sparse"):
        load_weights(network(), tmp_path / "model.pt")


def built(name, normalize=None, seed=0, **options):
    """Build a network of the package for gray images of 8x8 pixels."""
    return build(
        Spec(name, options), image_shape=(1, 8, 8), num_classes=3, mean=[0.5], std=[0.5], normalize=normalize, seed=seed
    )


@pytest.mark.parametrize("name", ["tests.support.user_networks:Plain", "cnn", "lipschitz_cnn"])
def test_a_model_that_gauntlet_stored_is_adopted(tmp_path, name):
    """The plain layers that a constrained network is stored as, too."""
    stored = built(name).eval()
    save_model(stored, tmp_path)
    loaded, _ = load_network(built(name, seed=1), read_checkpoint(tmp_path / "model.safetensors"), entry=None)
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(loaded(x), stored.export()(x))


def test_a_model_of_another_normalization_is_refused(tmp_path):
    """The first layer of ours is part of the stored weights."""
    save_model(built("cnn").eval(), tmp_path)
    with pytest.raises(InputError, match=r"normalizes with mean \(0\.5\); set `normalize:`"):
        load_network(built("cnn", "none"), read_checkpoint(tmp_path / "model.safetensors"), entry=None)


def test_a_checkpoint_that_is_replaced_meanwhile_is_refused(tmp_path):
    """The digest is that of the bytes that are loaded; it is computed once for an unchanged file."""
    file = tmp_path / "model.pt"
    torch.save(network().state_dict(), file)
    digest = digest_user_file(file)
    assert digest == digest_file(file) == read_checkpoint(file, digest=digest).digest
    torch.save(network(1).state_dict(), file)
    assert digest_user_file(file) != digest
    with pytest.raises(GauntletError, match="changed after this job was started"):
        load_weights(network(), file, digest=digest)
    assert digest_user_file(tmp_path / "none") is None
