"""Check of a claimed Lipschitz constant against images: the measured one is a lower bound, so it must not be larger."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gauntlet.core.batch_size import BatchSize
from gauntlet.core.errors import GauntletError
from gauntlet.core.recurrent import enable_recurrent_gradients
from gauntlet.learning.data.stored_images import UnitImages
from gauntlet.learning.models.network import LipschitzClaim
from gauntlet.registry import CERTIFICATES, Spec
from gauntlet.robustness.certificates.lipschitz_constants import LipschitzConstants
from gauntlet.robustness.networks import copy_network

PAIRED_IMAGES = 512
"""Number of images, from the first on, of which all pairs are measured."""
JACOBIANS = 128
"""Number of images, from the first on, at which the Jacobian is measured."""
TOLERANCE = 1e-6
"""Share by which a constant measured in float64 may exceed a claim, which may be stated in float32."""

_JACOBIAN_ENTRIES = 2**25


def check_lipschitz(
    network: nn.Module, images: Tensor | UnitImages, certificate: Spec, *, batch_size: int = 256, where: str = ""
) -> LipschitzConstants | None:
    """Check the constant that a network claims on images `(N, C, H, W)` in [0, 1], before it is certified.

    Returns None for a certificate that needs no constant, and for a network that states none in L2 (which the
    certificate refuses). Raises GauntletError when the measured constant exceeds the claim by more than `TOLERANCE`.
    """
    claim = getattr(network, "lipschitz", None)
    if CERTIFICATES.entry(certificate.name).tags.get("needs") != "lipschitz" or claim is None or claim.norm != "l2":
        return None
    measured = measure_lipschitz(network, images, claim, batch_size=batch_size)
    if not measured <= claim.constant * (1 + TOLERANCE):
        raise GauntletError(
            f"the network claims to be {claim.constant:.6g}-Lipschitz in L2 ({claim.head} head), and images show a"
            f" constant of {measured:.6g} at least: no certificate follows from a false claim",
            where=where,
            remedy="correct the constant that `lipschitz` states, or constrain the layers that break it",
        )
    return LipschitzConstants(claim.constant, measured)


def measure_lipschitz(
    network: nn.Module, images: Tensor | UnitImages, claim: LipschitzClaim, *, batch_size: int = 256
) -> float:
    """Measure a lower bound of a network's L2 constant on images `(N, C, H, W)`, in float64.

    The larger of two: ``|f(x) - f(z)| / |x - z|`` over all pairs of the first `PAIRED_IMAGES` images, and the norm of
    the Jacobian at the first `JACOBIANS`. Norms are L2 of the vector of logits for a ``joint`` head, of each logit
    alone for ``disjoint`` heads.
    """
    exact = copy_network(network).to(torch.float64)
    enable_recurrent_gradients(exact)
    first = next(exact.parameters(), images)
    x = images[:PAIRED_IMAGES].to(first.device, torch.float64)

    def outputs(part: slice) -> Tensor:
        with torch.no_grad():
            logits: Tensor = exact(x[part])
        return logits

    logits = torch.cat(list(BatchSize(batch_size, first.device).parts(len(x), outputs)))
    some, entries = x[:JACOBIANS], logits.shape[1] * x[0].numel()
    memory = BatchSize(max(1, min(batch_size, _JACOBIAN_ENTRIES // entries)), first.device)
    norms = memory.parts(len(some), lambda part: _jacobian_norm(exact, some[part], claim.head))
    return max(_pair_ratio(x, logits, claim.head), *norms)


def _pair_ratio(x: Tensor, logits: Tensor, head: str) -> float:
    """Return the largest change of the logits per change of the image, over all pairs of different images."""
    distance = torch.pdist(x.flatten(1))
    change = torch.pdist(logits) if head == "joint" else torch.pdist(logits, p=torch.inf)
    different = distance > 0
    return float((change[different] / distance[different]).max()) if different.any() else 0.0


def _jacobian_norm(network: nn.Module, x: Tensor, head: str) -> float:
    """Return the largest norm of the Jacobians at images `(B, C, H, W)`, with one backward pass per logit."""
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = network(x)
        rows = [
            torch.autograd.grad(logit.sum(), x, retain_graph=True, materialize_grads=True)[0].flatten(1)
            for logit in logits.unbind(1)
        ]
    jacobian = torch.stack(rows, dim=1)
    if head == "joint":
        # The Gram matrix is K x K; the Jacobian has as many columns as the image has values.
        largest = torch.linalg.eigvalsh(jacobian @ jacobian.mT)[:, -1]
        return float(largest.clamp(min=0).max().sqrt())
    return float(jacobian.norm(dim=2).max())
