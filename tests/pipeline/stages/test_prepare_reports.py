"""Cases of public bug reports about data, as a user meets them: `gauntlet check` and `gauntlet prepare`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gauntlet.config import load
from gauntlet.config.attacks import Attack
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.learning.data.stored_images import load_split
from gauntlet.pipeline.stages.evaluate.run import attacked_images
from tests.cli.test_cli import run
from tests.support.cifar_files import Images, write_cifar10
from tests.support.pictures import folder_of, picture, table_of, write

Gauntlet = Callable[..., tuple[int, str]]


@pytest.fixture
def gauntlet(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> Gauntlet:
    """Run a command on a data set in an empty folder; the result is the exit code and everything printed."""
    monkeypatch.chdir(tmp_path)

    def command(stage: str, **dataset: Any) -> tuple[int, str]:
        settings = {"dataset": dataset, "seeds": [0], "variants": {"a": {"model": "mnist_cnn"}}}
        Path("config.yaml").write_text(json.dumps({"experiments": {"t": settings}}))
        code, out, err = run(monkeypatch, capsys, stage)
        return code or 0, out + err

    return command


def stored() -> tuple[dict[str, Any], Path]:
    """Return the manifest of the only stored data set, and its folder."""
    (path,) = Path("data").glob("*/manifest.json")
    return json.loads(path.read_text()), path.parent


def refused(result: tuple[int, str], *parts: str) -> None:
    """Check that a command ended with 2, one line with `parts`, and stored nothing."""
    code, text = result
    assert code == 2, text
    assert text.count("\n") == 1
    assert len(text) < 600
    assert [part for part in parts if part not in text] == [], text
    assert not Path("data").exists() or not list(Path("data").rglob("*.safetensors"))


def test_folders_named_after_splits_are_no_classes(gauntlet: Gauntlet) -> None:
    """`mnist_png/{training,testing}/{0,1,2}` has three classes and 30 images per split (huggingface/datasets#7880)."""
    for split in ("training", "testing"):
        folder_of(Path("mnist_png") / split, {"0": 10, "1": 10, "2": 10})
    assert gauntlet("prepare", source="imagefolder", root="mnist_png")[0] == 0
    manifest, _ = stored()
    assert manifest["classes"] == ["0", "1", "2"]
    assert {name: split["n"] for name, split in manifest["splits"].items()} == {
        "train": 24,
        "validation": 6,
        "test": 30,
    }


def test_one_color_image_among_gray_ones_makes_the_set_color(gauntlet: Gauntlet) -> None:
    """Gray training images, one color image, gray test images (chainer/chainer#3093)."""
    folder_of(Path("xray/train"), {"normal": 10, "ill": 9}, mode="L")
    picture(50).save("xray/train/ill/color.png")
    folder_of(Path("xray/test"), {"normal": 10, "ill": 10}, mode="L")
    assert gauntlet("prepare", source="imagefolder", root="xray")[0] == 0
    manifest, folder = stored()
    assert manifest["image_shape"] == [3, 6, 6]
    assert load_split(folder, "test").images.shape == (20, 3, 6, 6)


@pytest.mark.parametrize("labels", [(1, 2, 3), (0, 1, 2, 4), (1440764, 2102040)])
def test_labels_that_skip_numbers_are_the_classes_that_occur(gauntlet: Gauntlet, labels: tuple[int, ...]) -> None:
    """Labels may begin at 1, skip numbers or be numbers of WordNet (PaddlePaddle/Paddle#40103, PriorLabs/TabPFN#29)."""
    write(table_of([labels[row % len(labels)] for row in range(24)]), Path("ds/train.parquet"))
    assert gauntlet("prepare", source="parquet", root="ds")[0] == 0
    manifest, folder = stored()
    assert manifest["classes"] == [str(label) for label in labels]
    for split in ("train", "validation", "test"):
        data = load_split(folder, split)
        assert data.labels.tolist() == (data.images[:, 0, 0, 0].long() % len(labels)).tolist()


def test_a_number_that_training_lacks_is_refused_in_one_line(gauntlet: Gauntlet) -> None:
    """A test label without training images names both."""
    write(table_of([0, 1] * 10), Path("ds/train.parquet"))
    write(table_of([0, 2], start=50), Path("ds/test.parquet"))
    refused(
        gauntlet("prepare", source="parquet", root="ds"), "ds/test.parquet", "column 'label'", "training: 2", "0, 1"
    )


def test_one_class_is_refused_by_prepare(gauntlet: Gauntlet) -> None:
    """A classifier of one class has nothing to learn (ultralytics/yolov3#191)."""
    write(table_of([0] * 20), Path("ds/train.parquet"))
    refused(gauntlet("prepare", source="parquet", root="ds"), "all 20 training images", "at least two classes")


@pytest.mark.parametrize(
    ("labels", "problem"), [([[1, 0], [0, 1]] * 10, "one-hot"), ([[0, 1]] * 20, "one label per image")]
)
def test_lists_as_labels_are_refused_with_column_and_type(gauntlet: Gauntlet, labels: object, problem: str) -> None:
    """Labels of several classes and one-hot vectors (keras-team/autokeras#1120)."""
    write(table_of(labels, column="labels"), Path("ds/train.parquet"))
    refused(gauntlet("prepare", source="parquet", root="ds"), "column 'labels' (list<", "int64>)", problem)


def test_two_configurations_of_a_data_set_are_refused_unless_one_is_named(gauntlet: Gauntlet) -> None:
    """`hub/small` and `hub/large` are not read as one (huggingface/datasets#6259)."""
    for name in ("small", "large"):
        write(table_of([0, 1] * 10), Path("hub") / name / "train-00000-of-00001.parquet")
    refused(gauntlet("prepare", source="parquet", root="hub"), "large", "small", "set `root:` to one of its folders")
    assert gauntlet("prepare", source="parquet", root="hub/small")[0] == 0
    assert sum(split["n"] for split in stored()[0]["splits"].values()) == 20


def test_swapped_class_names_are_matched_by_name(gauntlet: Gauntlet) -> None:
    """The metadata of the test table number the classes in another order."""
    write(table_of([0, 1] * 10, names=["cat", "dog"]), Path("ds/train.parquet"))
    write(table_of([0, 1] * 10, names=["dog", "cat"], start=100), Path("ds/test.parquet"))
    assert gauntlet("prepare", source="parquet", root="ds")[0] == 0
    manifest, folder = stored()
    assert manifest["classes"] == ["cat", "dog"]
    test = load_split(folder, "test")
    assert torch.equal(test.labels, 1 - test.images[:, 0, 0, 0].long() % 2)


def test_images_in_two_splits_are_reported(gauntlet: Gauntlet, caplog: pytest.LogCaptureFixture) -> None:
    """The warning and the manifest count the images; the command succeeds."""
    write(table_of([0, 1] * 10), Path("ds/train.parquet"))
    write(table_of([0, 1] * 10), Path("ds/test.parquet"))
    assert gauntlet("prepare", source="parquet", root="ds")[0] == 0
    assert "16 of 20 test images are training images too" in caplog.text
    assert "4 of 20 test images are validation images too" in caplog.text
    assert stored()[0]["duplicates"] == {"train/test": 16, "validation/test": 4}


@pytest.mark.parametrize("source", ["cifar", "imagefolder", "parquet", "torchvision"])
def test_a_missing_folder_is_found_by_check(gauntlet: Gauntlet, source: str) -> None:
    """`check` names the key, unless the source downloads the files or the data set is stored."""
    named = {"name": "MNIST"} if source == "torchvision" else {}
    for stage in ("check", "prepare"):
        refused(gauntlet(stage, source=source, root="absent", **named), "absent", "root")
    if source == "torchvision":
        assert gauntlet("check", source=source, root="absent", download=True, **named)[0] == 0


def test_a_malicious_file_of_cifar_is_refused_and_executes_nothing(gauntlet: Gauntlet) -> None:
    """`prepare` ends with one line that names the file and the function; the published form is stored."""
    write_cifar10(Path("ciFAIR-10"), Images.random(100, 1), Images.random(50, 2))
    test_file = Path("ciFAIR-10/test_batch")
    published = test_file.read_bytes()
    test_file.write_bytes(b"\x80\x02cposix\nsystem\nU\x0atouch done\x85R.")
    refused(gauntlet("prepare", source="cifar", root="ciFAIR-10"), "ciFAIR-10/test_batch", "posix.system")
    assert not Path("done").exists()
    test_file.write_bytes(published)
    assert gauntlet("prepare", source="cifar", root="ciFAIR-10")[0] == 0
    assert load_data_manifest(stored()[1]).sizes == {"train": 80, "validation": 20, "test": 50}


def test_check_needs_no_folder_of_a_stored_data_set(gauntlet: Gauntlet) -> None:
    """The raw files may be removed once the data set is stored."""
    write(table_of([0, 1] * 10), Path("ds/train.parquet"))
    assert gauntlet("prepare", source="parquet", root="ds")[0] == 0
    Path("ds/train.parquet").unlink()
    Path("ds").rmdir()
    assert gauntlet("check", source="parquet", root="ds")[0] == 0


def test_more_samples_than_test_images_are_reported(gauntlet: Gauntlet, caplog: pytest.LogCaptureFixture) -> None:
    """The number of attacked images is that of the test images, and the log says so."""
    write(table_of([0, 1] * 10), Path("ds/train.parquet"))
    assert gauntlet("prepare", source="parquet", root="ds")[0] == 0
    settings = load([Path("config.yaml")]).experiments["t"]
    attacks = {"fgsm": Attack.model_validate({"name": "fgsm", "norm": "linf", "epsilons": [0.1]})}
    cell = SimpleNamespace(experiment="t", name="fgsm")
    for samples, warned in ((4, False), (5, True)):
        experiment = settings.model_copy(update={"samples": samples, "attacks": attacks})
        job: Any = SimpleNamespace(experiment=experiment, cell=cell)
        assert len(attacked_images(job)[0]) == 4
        assert ("`samples: 5` is more than the 4 test images" in caplog.text) == warned


def test_prepare_reads_raw_files_again_if_they_changed(gauntlet: Gauntlet, caplog: pytest.LogCaptureFixture) -> None:
    """Another table under the same root is read; without changes, or raw files, nothing is redone."""
    caplog.set_level(logging.INFO)
    for labels in ((1, 2, 3), (0, 1, 2, 4)):
        write(table_of([labels[row % len(labels)] for row in range(24)]), Path("ds/train.parquet"))
        assert gauntlet("prepare", source="parquet", root="ds")[0] == 0
        assert stored()[0]["classes"] == [str(label) for label in labels]
    assert caplog.text.count("the raw files changed") == 1
    assert "up to date" not in caplog.text
    caplog.clear()
    for change in (lambda: None, Path("ds/.hidden").touch, Path("ds/train.parquet").unlink):
        change()
        assert gauntlet("prepare", source="parquet", root="ds")[0] == 0
    assert caplog.text.count("up to date") == 3


@pytest.mark.parametrize("dataset", [{"root": "pics"}, {"root": "pics/test", "test": "all"}])
def test_training_on_test_images_alone_is_refused_in_one_line(gauntlet: Gauntlet, dataset: dict[str, str]) -> None:
    """The set is stored; the training names the data set, and what would be right."""
    folder_of(Path("pics/test"), {"a": 5, "b": 5})
    code, text = gauntlet("prepare", source="imagefolder", **dataset)
    assert (code, stored()[0]["splits"]["train"]["n"]) == (0, 0), text
    code, text = gauntlet("train", source="imagefolder", **dataset)
    assert code == 2
    assert "train t variant=a seed=0: the data set data/imagefolder-" in text
    assert "has no training images; add training images" in text
    assert text.count("\n") == 1
