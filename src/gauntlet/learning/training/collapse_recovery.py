"""What is done about a training that collapses: back to the last good weights, and on with the ramps standing still.

A collapse is an epoch after which the accuracy on a fixed sample of the training images is below a share of what it was
after the last good epoch, or one in which a loss was not finite (source C's journal). Collapsed epochs are counted and
recorded like all others, so that every epoch has its own number, and with it its own order of images and its own draws:
what led into a collapse is not repeated.
"""

from __future__ import annotations

import copy
import logging

from torch.optim import Optimizer

from gauntlet.core.errors import GauntletError
from gauntlet.learning.data.splits import Split
from gauntlet.learning.losses import Loss
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.settings import RecoverySettings
from gauntlet.learning.training.state import RecoveryState, snapshot
from gauntlet.learning.training.validation import clean_metrics

log = logging.getLogger("gauntlet")


class NonFiniteLoss(GauntletError):
    """A loss that is not finite; an epoch that has one is a collapse where recovery is on, else the end."""


class CollapseRecovery:
    """Tells whether an epoch collapsed, and keeps what a collapse goes back to.

    `sample` are the training images that accuracy is measured on. From epoch `regularized_from` on (None: never) a
    collapse ends the training.
    """

    def __init__(
        self,
        settings: RecoverySettings,
        network: Network,
        optimizer: Optimizer,
        loss: Loss,
        sample: Split,
        *,
        regularized_from: int | None,
    ) -> None:
        self.settings, self.network, self.optimizer, self.loss = settings, network, optimizer, loss
        self.sample, self.regularized_from = sample, regularized_from
        self.state = RecoveryState(snapshot(network), copy.deepcopy(optimizer.state_dict()))

    def ramps_frozen(self, epoch: int) -> bool:
        """Whether the ramps of the network stand still in an epoch, counted from 1."""
        return epoch <= self.state.frozen_until

    def accuracy(self) -> float:
        """Measure the network, in evaluation mode, on the sample."""
        return clean_metrics(self.network, self.loss, self.sample).accuracy

    def collapse_reason(self, accuracy: float, trouble: NonFiniteLoss | None) -> str | None:
        """Say how the epoch that led to this accuracy collapsed; None where it did not."""
        if trouble is not None:
            return trouble.problem
        last = self.state.accuracy
        if last is None or accuracy >= self.settings.threshold * last:
            return None
        return f"accuracy on {len(self.sample)} training images fell from {last:.4f} to {accuracy:.4f}"

    def record_good_epoch(self, epoch: int, accuracy: float) -> None:
        """Keep what a good epoch, counted from 1, has come to."""
        self.state.weights, self.state.optimizer = snapshot(self.network), copy.deepcopy(self.optimizer.state_dict())
        self.state.epoch, self.state.accuracy = epoch, accuracy

    def go_back(self, epoch: int, reason: str) -> None:
        """Take weights and optimiser back to the last good epoch, and freeze the ramps for the next ones.

        Raises GauntletError when a regulariser has set in by `epoch`, or when there have been too many collapses.
        """
        state, settings = self.state, self.settings
        state.collapses += 1
        problem = f"training collapsed in epoch {epoch}: {reason}"
        if self.regularized_from is not None and epoch >= self.regularized_from:
            raise GauntletError(
                f"{problem}, with the regularizers on since epoch {self.regularized_from}",
                remedy="weaken them, let them begin later (`start_epoch`), or lower `training.optimizer.lr`",
            )
        if state.collapses > settings.max_collapses:
            raise GauntletError(
                f"{problem}, after {state.collapses - 1} collapses before",
                remedy="lower `training.optimizer.lr`, slow the ramps, or raise `training.recovery.max_collapses`",
            )
        self.network.load_state_dict(state.weights)
        # The optimiser goes on in the tensors that it is given.
        self.optimizer.load_state_dict(copy.deepcopy(state.optimizer))
        state.frozen_until = epoch + settings.frozen_epochs
        origin = f"the weights of epoch {state.epoch}" if state.epoch else "the first weights"
        log.warning("%s; back to %s, ramps stand still for %d epochs", problem, origin, settings.frozen_epochs)
