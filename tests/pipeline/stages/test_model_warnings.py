"""Warnings about models reach the manifest and the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from gauntlet.config.schema import Config
from gauntlet.learning.models.build import build
from gauntlet.learning.models.weights import load_model, save_model
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Scope
from gauntlet.pipeline.stages.train.declaration import models
from gauntlet.pipeline.stages.train.model_warnings import model_warnings
from gauntlet.registry import Spec


def test_a_warning_is_kept_in_the_manifest_and_read_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By variant and seed; a manifest without warnings does not have the key, and a missing one is passed by."""
    monkeypatch.chdir(tmp_path)
    experiment = {
        "dataset": {"source": "sklearn_digits"},
        "seeds": [0, 1, 2],
        "variants": {"small": {"model": "cnn"}},
        "attacks": {"pgd": {"name": "pgd", "norm": "linf", "epsilons": [0.1]}},
    }
    scope = Scope("digits", Config.model_validate({"experiments": {"digits": experiment}}))
    first, second, _missing = models(scope)
    network = build(Spec("cnn"), image_shape=(1, 8, 8), num_classes=10, mean=(0.3,), std=(0.4,))
    save_model(network, paths.model_folder(first), warnings=["it normalizes inside"])
    save_model(network, paths.model_folder(second))
    load_model(paths.model_folder(first))
    assert "warnings" not in paths.model_manifest(second).read_text()
    assert list(model_warnings(scope)) == ["small, seed 0: it normalizes inside."]
