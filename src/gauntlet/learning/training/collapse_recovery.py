"""Recovery from collapsed epochs: training continues from the last good epoch with the ramps frozen.

An epoch has collapsed if the accuracy on a fixed sample of training images is below a share of the accuracy after the
last good epoch, or if one of its losses is not finite (Le 2019, journal of logic-inspired networks). Collapsed epochs
are counted and recorded like all others. Each epoch thus has its own number, and with it its own image order and random
draws: the steps that led to a collapse are not repeated.
"""

from __future__ import annotations

import copy
import logging

from torch.optim import Optimizer

from gauntlet.core.errors import GauntletError
from gauntlet.learning.data.splits import Split
from gauntlet.learning.losses import Loss, load_loss_state, loss_state
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.settings import RecoverySettings
from gauntlet.learning.training.state import RecoveryState, snapshot
from gauntlet.learning.training.validation import clean_metrics

log = logging.getLogger("gauntlet")


class NonFiniteLoss(GauntletError):
    """A loss that is not finite: a collapse if recovery is on, else the training fails."""


class CollapseRecovery:
    """Detection of collapsed epochs, and the state that training returns to after one.

    `sample` holds the training images on which accuracy is measured. From epoch `regularized_from` on (None: never) a
    collapse fails the training.
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
        self.state.loss = copy.deepcopy(loss_state(loss))

    def ramps_frozen(self, epoch: int) -> bool:
        """Return whether the network's ramps are frozen in an epoch, counted from 1."""
        return epoch <= self.state.frozen_until

    def accuracy(self) -> float:
        """Measure the accuracy of the network, which must be in evaluation mode, on the sample."""
        return clean_metrics(self.network, self.loss, self.sample).accuracy

    def collapse_reason(self, accuracy: float, non_finite: NonFiniteLoss | None) -> str | None:
        """Return why the epoch with this accuracy counts as collapsed, or None if it does not."""
        if non_finite is not None:
            return non_finite.problem
        last = self.state.accuracy
        if last is None or accuracy >= self.settings.threshold * last:
            return None
        return f"accuracy on {len(self.sample)} training images fell from {last:.4f} to {accuracy:.4f}"

    def record_good_epoch(self, epoch: int, accuracy: float) -> None:
        """Store weights and optimizer state of a good epoch, counted from 1."""
        self.state.weights, self.state.optimizer = snapshot(self.network), copy.deepcopy(self.optimizer.state_dict())
        self.state.loss = copy.deepcopy(loss_state(self.loss))
        self.state.epoch, self.state.accuracy = epoch, accuracy

    def restore_good_epoch(self, epoch: int, reason: str) -> None:
        """Restore weights and optimizer state of the last good epoch, and freeze the ramps for the next epochs.

        Raises GauntletError if a regularizer is on since `epoch` or earlier, or after too many collapses.
        """
        state, settings = self.state, self.settings
        state.collapses += 1
        problem = f"training collapsed in epoch {epoch}: {reason}"
        if self.regularized_from is not None and epoch >= self.regularized_from:
            raise GauntletError(
                f"{problem}, with the regularizers on since epoch {self.regularized_from}",
                remedy="weaken them, start them later (`start_epoch`), or lower `training.optimizer.lr`",
            )
        if state.collapses > settings.max_collapses:
            raise GauntletError(
                f"{problem}, after {state.collapses - 1} collapses before",
                remedy="lower `training.optimizer.lr`, slow the ramps, or raise `training.recovery.max_collapses`",
            )
        self.network.load_state_dict(state.weights)
        load_loss_state(self.loss, state.loss)
        # The optimizer would otherwise update the stored tensors in place.
        self.optimizer.load_state_dict(copy.deepcopy(state.optimizer))
        state.frozen_until = epoch + settings.frozen_epochs
        origin = f"the weights of epoch {state.epoch}" if state.epoch else "the initial weights"
        log.warning("%s; restored %s, ramps are frozen for %d epochs", problem, origin, settings.frozen_epochs)
