"""Networks and schedules that would fail once training begins are found by `check`."""

from __future__ import annotations

import itertools

import pytest

from gauntlet.config.feasibility import network_problems
from gauntlet.config.loading import load
from gauntlet.config.schema import Experiment
from gauntlet.core.errors import InputError
from gauntlet.learning.models.build import build
from gauntlet.learning.models.vgg import WIDTHS
from gauntlet.registry import MODELS, SOURCES
from tests.support.yaml_text import dump_yaml

DIGITS = {"source": "sklearn_digits"}
MNIST = {"source": "torchvision", "name": "MNIST", "root": "."}

MISTAKES = [
    ({}, {"model": "lenet"}, "model.name: lenet needs images of 18x18 pixels or more, these are 8x8; choose another"),
    ({"dataset": {"source": "imagefolder", "root": ".", "size": 3}}, {"model": "mnist_cnn"}, "these are 3x3"),
    ({}, {"model": {"name": "cnn", "widths": []}}, "model.widths: the network has no layers"),
    ({}, {"model": {"name": "vgg", "depth": 3, "first_modified": 4}}, "vgg of depth 3 has layers 0 to 3, not 4"),
    ({}, {"model": {"name": "vgg", "depth": 3, "last_modified": 9}}, "last_modified: vgg of depth 3 has layers 0 to 3"),
    (
        {},
        {"model": {"name": "vgg", "first_modified": 3, "last_modified": 2}},
        "model.first_modified: no layer is from 3 to 2; choose first_modified <= last_modified",
    ),
    (
        {},
        {"model": {"name": "lipschitz_cnn", "widths": [3, 8]}, "loss": "hkr"},
        "model.widths: group_sort sorts pairs, so 3 must be even",
    ),
    (
        {},
        {"model": {"name": "cnn", "head": {"name": "ecc", "heads": 3, "hidden": 64}}, "loss": "hinge"},
        "model.head.heads: 3 heads cannot share 64 hidden units evenly",
    ),
    (
        {},
        {"model": {"name": "cnn", "head": {"name": "ecc", "max_probability": 0.1}}, "loss": "hinge"},
        "model.head.max_probability: 0.1 is not above chance among 10 classes",
    ),
    (
        {"training": {"epochs": 5, "warmup_epochs": 5}},
        {},
        "the learning rate rises over 5 epochs, training ends after 5",
    ),
    (
        {"training": {"epochs": 5, "adversary": {"name": "gaussian", "sigma": 0.1, "warmup_epochs": 6}}},
        {},
        "adversary.warmup_epochs: the budget rises over 6 epochs, training ends after 5",
    ),
    (
        {"training": {"epochs": 5, "schedule": "warmup_cosine"}},
        {},
        "schedule.warmup_epochs: the learning rate rises over 5 epochs, training ends after 5",
    ),
    (
        {"training": {"epochs": 9, "schedule": {"name": "step", "milestones": [6, 3]}}},
        {},
        "training.schedule.milestones: the epochs must ascend, each once",
    ),
    ({"training": {"schedule": {"name": "step", "milestones": []}}}, {}, "milestones: the list is empty"),
    (
        {"training": {"negatives": {"name": "scrambling", "blocks": [8]}}},
        {"model": {"name": "cnn", "head": "sigmoid"}, "loss": "sigmoid_bce"},
        "negatives.blocks: an image of 8x8 has only one block of 8 pixels",
    ),
]


def write(folder, experiment, variant):
    """Write a configuration of one variant."""
    content = {"dataset": DIGITS, "variants": {"v": {"model": "cnn", **variant}}, **experiment}
    file = folder / "config.yaml"
    file.write_text(dump_yaml({"experiments": {"e": content}}))
    return file


@pytest.mark.parametrize(("experiment", "variant", "message"), MISTAKES)
def test_what_fails_in_training_is_found_before(tmp_path, monkeypatch, experiment, variant, message):
    """There is one line, with the key."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        load([write(tmp_path, experiment, variant)])
    [line] = str(error.value).splitlines()
    assert message in line


def test_what_can_be_trained_is_not_refused(tmp_path, monkeypatch):
    """The last possible values pass, and so does what is not known before the images are read."""
    monkeypatch.chdir(tmp_path)
    load([write(tmp_path, {"training": {"epochs": 5, "warmup_epochs": 4}}, {})])
    load([write(tmp_path, {"dataset": MNIST}, {"model": "lenet"})])
    load([write(tmp_path, {"dataset": {"source": "imagefolder", "root": "."}}, {"model": "lenet"})])
    load([write(tmp_path, {}, {"model": {"name": "vgg", "first_modified": 13, "last_modified": 13}})])


def has_problems(model, side):
    """Return whether `check` refuses a network for digits of a size."""
    content = {"dataset": {"source": "imagefolder", "root": ".", "size": side}, "variants": {"v": {"model": "cnn"}}}
    experiment = Experiment.model_validate(content)
    variant = type(experiment.variants["v"]).model_validate({"model": model})
    dataset = experiment.dataset if side != 8 else type(experiment.dataset).model_validate(DIGITS)
    return list(network_problems(variant, dataset)) != []


def is_refused(model, side):
    """Return whether the network's constructor refuses it."""
    variant = Experiment.model_validate({"dataset": DIGITS, "variants": {"v": {"model": "cnn"}}}).variants["v"]
    spec = type(variant).model_validate({"model": model}).model
    try:
        build(spec, image_shape=(1, side, side), num_classes=10, mean=[0.5], std=[0.5])
    except InputError:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "side"), [("lenet", 17), ("lenet", 18), ("mnist_cnn", 3), ("mnist_cnn", 4), ("cnn", 1)]
)
def test_the_smallest_images_are_those_of_the_constructor(name, side):
    """The tag and the network agree."""
    assert has_problems(name, side) == is_refused(name, side)


@pytest.mark.parametrize("name", ["ecc", "hadamard_code"])
def test_shares_of_codes_are_those_of_the_constructor(name):
    """Every combination of heads, hidden units and length is refused by both or by none."""
    for heads, hidden, length in itertools.product((1, 2, 3, 16, 32), (0, 6, 16), (None, 16, 32)):
        head = {"name": name, "heads": heads, "hidden": hidden, "length": length}
        model = {"name": "cnn", "widths": [2], "head": head}
        assert has_problems(model, 8) == is_refused(model, 8), head


def test_layers_of_vgg_are_those_of_the_network():
    """The tag repeats what the widths of the convolutions imply."""
    layers = {depth: sum(map(len, widths)) for depth, widths in WIDTHS.items()}
    assert MODELS.entry("vgg").tags["last_layer"] == layers


@pytest.mark.parametrize(
    ("where", "training", "own"),
    [
        ("e.training.precision", {"precision": "tf32"}, {}),
        ("e.variants.v.training.precision", {}, {"training": {"precision": "tf32"}}),
    ],
)
def test_tf32_on_the_cpu_is_refused(tmp_path, where, training, own):
    """Training would refuse it when it begins; other devices and precisions are accepted."""
    file = write(tmp_path, {"training": training}, own)
    accepted = file.read_text()
    load([file])
    file.write_text(accepted + "execution: {device: cpu}\n")
    with pytest.raises(InputError, match=rf"{where}: no CPU computes in tf32, and `execution.device` is cpu"):
        load([file])
    file.write_text(accepted.replace("tf32", "bfloat16") + "execution: {device: cpu}\n")
    load([file])


def test_three_channels_take_as_many_statistics_or_one(tmp_path):
    """The number is known by the name of the data set; a folder's images are not known."""
    cifar, folder = {"source": "torchvision", "name": "CIFAR10", "root": "."}, {"source": "imagefolder", "root": "."}
    three, two = ({"normalize": {"mean": 0.5, "std": [0.2] * count}} for count in (3, 2))
    load([write(tmp_path, {"dataset": cifar}, three)])
    load([write(tmp_path, {"dataset": folder}, two)])
    with pytest.raises(InputError, match=r"normalize\.std: the images have 3 channels, so expected 3 numbers, or one"):
        load([write(tmp_path, {"dataset": cifar}, two)])


def test_tagged_sizes_are_those_of_the_images():
    """Of the source that needs no files."""
    images = SOURCES.load("sklearn_digits")().train.images
    tags = SOURCES.entry("sklearn_digits").tags
    assert images.shape[1:] == (tags["channels"], tags["side"], tags["side"])
