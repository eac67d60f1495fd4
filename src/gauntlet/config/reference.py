"""The reference of the configuration (docs/configuration.md), written from the schema and the registries."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gauntlet.config.attacks import Attack
from gauntlet.config.candidates import CANDIDATE_KEYS, DISTRIBUTIONS
from gauntlet.config.certificates import Certificate
from gauntlet.config.checkpoint_files import CheckpointFile
from gauntlet.config.choices import Choice
from gauntlet.config.cluster import Cluster
from gauntlet.config.datasets import Dataset, Limit
from gauntlet.config.execution import Execution
from gauntlet.config.grids.levels import LEVEL_KEYS
from gauntlet.config.grids.reading import AXIS_KEYS, OWN_KEYS
from gauntlet.config.published import Published, PublishedNumber
from gauntlet.config.schema import Config, Diagnostics, Experiment
from gauntlet.config.variants import (
    Averaging,
    GradientClipping,
    Recovery,
    Statistics,
    Training,
    Variant,
    WeightPerturbation,
)
from gauntlet.registry import (
    ADVERSARIES,
    ATTACKS,
    AUGMENTATIONS,
    CERTIFICATES,
    LOSSES,
    MIXINGS,
    MODELS,
    NEGATIVES,
    OPTIMIZERS,
    PARTS,
    REGULARIZERS,
    SCHEDULES,
    SOURCES,
    Registry,
)
from gauntlet.registry.source_code import REQUIRED

SECTIONS = (
    ("The file", Config, ()),
    ("`experiments.NAME`", Experiment, ()),
    ("`dataset`", Dataset, (SOURCES,)),
    ("`dataset.limit`", Limit, ()),
    ("`training`", Training, (OPTIMIZERS, SCHEDULES, REGULARIZERS, AUGMENTATIONS, MIXINGS, NEGATIVES, ADVERSARIES)),
    ("`training.recovery`", Recovery, ()),
    ("`training.gradient_clipping`", GradientClipping, ()),
    ("`training.ema`", Averaging, ()),
    ("`training.awp`", WeightPerturbation, ()),
    ("`variants.NAME`", Variant, (MODELS, *(registry for registry, _ in PARTS.values()), LOSSES)),
    ("`variants.NAME.normalize`", Statistics, ()),
    ("`variants.NAME.weights`, `training.initial_weights`", CheckpointFile, ()),
    ("Chosen variants: `variants.NAME`", Choice, ()),
    ("`attacks.NAME`", Attack, (ATTACKS,)),
    ("`certificates.NAME`", Certificate, (CERTIFICATES,)),
    ("`diagnostics`", Diagnostics, ()),
    ("`published`", Published, ()),
    ("`published.numbers.NAME.NAME`: a number of a variant and a quantity, or a mapping", PublishedNumber, ()),
    ("`execution`", Execution, ()),
    ("`execution.cluster`", Cluster, ()),
)
GRID_SECTIONS = (
    ("`variants.GRID`, with places `{axis}` in its name", OWN_KEYS),
    ("`variants.GRID.axes.AXIS`", AXIS_KEYS),
    ("`variants.GRID.axes.AXIS.LEVEL`", LEVEL_KEYS),
)
CANDIDATE_SECTIONS = (
    ("`variants.NAME.candidates`", CANDIDATE_KEYS),
    ("`variants.NAME.candidates.space.PARAMETER`", DISTRIBUTIONS),
)
_OWN_KEY = {"attack": "name", "certificate": "name"}


_INTRODUCTION = """\
# Configuration

<!-- Written by `python -m gauntlet.config.reference > docs/configuration.md`; a test keeps it so. -->

A file is YAML 1.2: `1e-3` and `010` are numbers, `no` and `on` are text. Anchors and merges keep an ablation short:
`wide: {<<: *base, training: {epochs: 40}}` has the keys of `base`, with `training` replaced as a whole. Tags are
refused. A name with places, such as `"{activation}_{unit}"`, is a grid: one variant per combination of the levels of
its `axes` ([ablations.md](ablations.md)). Several files are one configuration: all their experiments, and each other
key from the file that has it.

Unknown keys are refused. ε and distances are in pixel units of [0, 1]. Components by import path
(`package.module:Name`) are allowed wherever a name is; every Foolbox attack with a norm is `foolbox:NAME`, every
classifier of torchvision or timm `torchvision:NAME` or `timm:NAME` ([extending.md](extending.md))."""


def reference() -> str:
    """Return the page: every key with its default and meaning, every component with its options and source."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    for title, model, registries in SECTIONS:
        yield from ("", f"## {title}", "", "| key | default | meaning |", "|---|---|---|")
        for name, info in model.model_fields.items():
            description = info.description or ""
            default = _default_text(info.get_default(call_default_factory=True), required=info.is_required())
            # The description names the value that None is replaced by.
            default = "–" if default == "none" and "default: " in description else default
            yield f"| `{_OWN_KEY.get(name, name)}` | {default} | {description} |"
        for registry in registries:
            yield from _components(registry)
        if model is Variant:
            yield from _plain_lines(GRID_SECTIONS)
        if model is Choice:
            yield from _plain_lines(CANDIDATE_SECTIONS)


def _plain_lines(sections: Iterable[tuple[str, Mapping[str, str]]]) -> Iterator[str]:
    for title, keys in sections:
        yield from ("", f"## {title}", "", "| key | meaning |", "|---|---|")
        yield from (f"| `{name}` | {meaning} |" for name, meaning in keys.items())


def _components(registry: Registry) -> Iterator[str]:
    yield from (
        "",
        f"### {_plural(registry.kind)}",
        "",
        "| name | options | description | source |",
        "|---|---|---|---|",
    )
    for name in registry.names():
        entry = registry.entry(name)
        options = ", ".join(
            f"`{option.name}`" + ("" if option.default is REQUIRED else f" ({option.default})")
            for option in entry.options or ()
        )
        summary = entry.doc.replace("|", "\\|")
        yield f"| `{name}` | {options or '–'} | {summary} | {entry.tags.get('source', '–')} |"


def _plural(kind: str) -> str:
    if kind.endswith("y"):
        return f"{kind[:-1]}ies"
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def _default_text(default: Any, *, required: bool) -> str:
    if required:
        return "required"
    if hasattr(default, "name") and hasattr(default, "options"):
        return f"`{default.name}`"
    if hasattr(default, "model_dump") or default == {}:
        return "–"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if default is None:
        return "none"
    return f"`{list(default)}`" if isinstance(default, tuple) else f"`{default}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
