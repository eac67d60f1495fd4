"""Declaration of the stage `certify`."""

from __future__ import annotations

from collections.abc import Iterator

from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, Scope, Slice, Stage
from gauntlet.pipeline.stages.components import model_modules, modules_of, network_slice
from gauntlet.pipeline.stages.evaluate.declaration import component_path
from gauntlet.pipeline.stages.train.declaration import measured_models, model_inputs, model_of
from gauntlet.registry import CERTIFICATES


def certificates(scope: Scope) -> Iterator[Cell]:
    """List every certificate of every model that can have it, in the order of the configuration."""
    for model in measured_models(scope):
        for name, certificate in scope.settings.certificates.items():
            if scope.settings.can_certify(certificate, model.variant):
                yield Cell(STAGE, scope.name, model.variant, model.seed, name)


def _slice(cell: Cell, scope: Scope, files: Files) -> Slice:
    certificate = scope.settings.certificates[cell.name].as_dict()
    ids = {"experiment": cell.experiment, "variant": cell.variant, "seed": cell.seed, "name": cell.name}
    return {
        **ids,
        "samples": scope.settings.samples,
        "certificate": certificate,
        **network_slice(model_of(cell), scope, files),
    }


def _modules(cell: Cell, scope: Scope, files: Files) -> list[str]:
    certificate = scope.settings.certificates[cell.name].certificate
    return model_modules(model_of(cell), scope, files) + modules_of([(CERTIFICATES, certificate)])


STAGE: Stage = Stage(
    name="certify",
    order=30,
    help="Compute certificates of trained models.",
    needs="the key `certificates`, with one for a norm of its models",
    ids=("experiment", "variant", "seed", "certificate"),
    cells=certificates,
    inputs=model_inputs,
    outputs=lambda cell: (paths.cell_file(cell, "certificates", "samples.parquet"),),
    slice=_slice,
    modules=_modules,
    setting_path=component_path,
    uses_model=True,
    resumable=True,
    group="cells",
    late_imports=("torch.fx.experimental.symbolic_shapes",),
)
