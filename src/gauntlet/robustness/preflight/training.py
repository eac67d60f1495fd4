"""Experiment before a training: a network that is stored and loaded must be the same network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.device_errors import device_error
from gauntlet.core.errors import GauntletError, InputError, first_line
from gauntlet.core.memory_format import memory_format_of, set_memory_format
from gauntlet.core.randomness import derive_seed, generator
from gauntlet.core.seeding import seeded
from gauntlet.learning.models.build import rebuild
from gauntlet.learning.models.network import Network
from gauntlet.robustness.judge import Judge
from gauntlet.robustness.networks import device_of
from gauntlet.robustness.preflight.model import check_model
from gauntlet.robustness.preflight.rounding import largest_difference, largest_logit

_IMAGES = 8
_SAME = 1e-5
"""Share of the largest logit by which a loaded network may differ from the stored one."""


def check_trainable(network: Network, *, seed: int, draws: int = 1, certified: bool = False) -> None:
    """Check a network from `build` with this seed before it is trained; it is not changed.

    Another network is built with the same seed: its weights must be equal. It is trained for a step, on noise, and must
    then pass `check_stored` and `check_model`. `draws` is the number of passes of a random network, which must not be
    `certified`.

    Raises InputError.
    """
    with seeded(derive_seed("preflight", seed)):
        twin, name = _rebuilt(network, seed)
        _check_equal_weights(network, twin, name)
        shape = twin.description.image_shape if twin.description else ()
        images = torch.rand((_IMAGES, *shape), generator=generator("preflight", "training"))
        _train_one_step(twin, images, name)
        check_stored(twin.eval(), images)
        judge = Judge(twin.export(), device=torch.device("cpu"), draws=1 if certified else draws)
        try:
            check_model(judge, images, torch.zeros(_IMAGES, dtype=torch.int64), trained=False, certified=certified)
        except InputError as error:
            raise InputError(f"{name}: {error.problem}", remedy=error.remedy) from error


def check_stored(network: Network, images: Tensor) -> None:
    """Check that a network from `build`, in evaluation mode, would be the same after it is stored and loaded.

    Another one, built with another seed, gets its state dict; on images `(N, C, H, W)` both must have the same outputs.
    Raises InputError if the network has state that its state dict lacks.
    """
    with seeded(derive_seed("preflight", "stored")):
        other, name = _rebuilt(network, derive_seed("preflight", "another"))
        stored, other, device = network.export(), other.eval().export(), device_of(network)
        _load(other, stored, name)
        # Rounding depends on the memory format, and a head of codes may amplify it a thousand times.
        set_memory_format(other, memory_format_of(stored))
        before, after = (_outputs(each.to(device), images.to(device)) for each in (stored, other))
    if largest_difference(before, after) > _SAME * largest_logit(before):
        problem = f"{name} has state that its state dict lacks: stored and loaded again, it gives other outputs"
        remedy = "register each tensor as parameter or persistent buffer, and each layer as a module"
        raise InputError(problem, remedy=remedy)


def _rebuilt(network: Network, seed: int) -> tuple[Network, str]:
    """Build a network again with a seed, as `load_model` does; return it and the name of its architecture."""
    description = network.description
    if description is None:
        raise ValueError("only a network from gauntlet.learning.models.build can be checked")
    return rebuild(description, seed=seed), description.architecture.name


def _check_equal_weights(network: nn.Module, twin: nn.Module, name: str) -> None:
    states = (network.state_dict(), twin.state_dict())
    for key, value in states[0].items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
            problem = f"{name} has an entry in its state dict that cannot be stored ({key})"
            raise InputError(problem, remedy="keep dense tensors only, other values as options")
        equal = key in states[1] and value.shape == states[1][key].shape
        if not equal or not torch.equal(value.nan_to_num(), states[1][key].nan_to_num()):
            problem = f"{name} has other weights each time it is built with the same seed ({key})"
            remedy = "draw weights from the global generators anew in each construction (no cache, no class attribute)"
            raise InputError(problem, remedy=remedy)


def _train_one_step(network: Network, images: Tensor, name: str) -> None:
    """Train for one small step, so that whatever training changes is changed."""
    parameters = [parameter for parameter in network.train().parameters() if parameter.requires_grad]
    try:
        loss = network(images).square().mean()
        if parameters and loss.requires_grad:
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    if gradient is not None:
                        size = gradient.norm().clamp(min=1.0)
                        parameter.sub_(1e-3 * (gradient / size).nan_to_num(0.0, 0.0, 0.0))
        network.after_step()
    except GauntletError:
        raise
    except Exception as error:  # a user's network may raise anything
        problem = f"{name} cannot be trained: {type(error).__name__}: {first_line(error)}"
        remedy = "let it compute and differentiate its outputs in training mode"
        raise device_error(error) or InputError(problem, remedy=remedy) from error


def _load(other: Network, stored: Network, name: str) -> None:
    try:
        other.load_state_dict(stored.state_dict())
    except Exception as error:  # a user's network may load in its own way
        problem = f"{name} cannot be loaded from its own state dict: {' '.join(str(error).split())[:200]}"
        raise InputError(problem, remedy="let its constructor create every entry") from error


@torch.no_grad()
def _outputs(network: Network, images: Tensor) -> Tensor:
    with seeded(derive_seed("preflight", "outputs"), images.device), float32_arithmetic():
        logits: Tensor = network(images.clone())
    return logits
