"""A ResNet-18 of torchvision with random weights, adopted from two files, through every stage to the page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from gauntlet import load_model
from gauntlet.core.parquet import read_table
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.data.stored_images import load_split
from gauntlet.pipeline import paths
from tests.support.cells import make_cell
from tests.support.pictures import folder_of
from tests.support.stub_outputs import staleness_in, write_config

CONFIG = {
    "experiments": {
        "published": {
            "dataset": {"source": "imagefolder", "root": "images"},
            "samples": 6,
            "diagnostics": {"samples": 2, "steps": 1},
            "variants": {
                "resnet": {
                    "model": "torchvision:resnet18",
                    "weights": ["0.pt", "1.pt"],
                    "normalize": "none",
                }
            },
            "attacks": {"pgd": {"name": "pgd", "norm": "linf", "epsilons": [0.01], "steps": 2}},
            "certificates": {"smooth": {"name": "smoothing", "n0": 10, "n": 20}},
        }
    },
    "execution": {"device": "cpu"},
}


def network(seed):
    """Build a ResNet-18 of torchvision with random weights and statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = torchvision.models.resnet18(num_classes=3)
        with torch.no_grad():
            for _ in range(2):
                made(torch.rand(8, 3, 16, 16))
    return made.eval()


@pytest.mark.slow
def test_two_files_are_two_seeds_to_the_page(tmp_path, monkeypatch):
    """Clean predictions are the network's own, bit for bit; an edited file makes exactly its seed stale."""
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 12), ("test", 4)):
        folder_of(Path("images") / split, {"a": count, "b": count, "c": count})
    for seed in (0, 1):
        state = {f"module.{name}": tensor for name, tensor in network(seed).state_dict().items()}
        torch.save({"epoch": 90, "checkpoint": {"state_dict": state}}, f"{seed}.pt")
    write_config(tmp_path, CONFIG)
    for cell in list(staleness_in(tmp_path).graph.cells()):
        cell.stage.run(staleness_in(tmp_path).job(cell))
    images = to_unit(load_split(next(Path("data").iterdir()), "test").images)[:6]
    for seed in (0, 1):
        own, adopted = network(seed), load_model(paths.model_folder(make_cell("train", "published", "resnet", seed)))
        assert all(map(torch.equal, adopted.body.state_dict().values(), own.state_dict().values()))
        with torch.no_grad():
            logits = own(images)
        assert torch.equal(adopted(images), logits)
        rows = read_table(paths.samples(make_cell("evaluate", "published", "resnet", seed, "pgd")))
        assert rows["clean_prediction"].to_pylist() == logits.argmax(1).tolist()
    folder = paths.experiment_folder("published")
    summary = read_table(folder / "summary.parquet").to_pylist()
    assert {(row["seeds"], row["missing"]) for row in summary} == {(2, 0)}
    assert set(read_table(folder / "certified.parquet")["seeds"].to_pylist()) == {2}
    assert {row["seed"] for row in read_table(folder / "diagnostics.parquet").to_pylist()} == {0, 1}
    assert (folder / "tables" / "table.tex").is_file()
    assert "resnet" in (folder / "report.html").read_text()
    torch.save(network(7).state_dict(), "1.pt")
    models = [cell for cell in staleness_in(tmp_path).graph.cells() if cell.stage.name == "train"]
    assert [staleness_in(tmp_path).is_current(cell) for cell in models] == [True, False]
