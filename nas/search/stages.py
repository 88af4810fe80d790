"""Training stages of a search (section V-B): the supernet with alpha, then the derived model.

A stage is an object that trains one epoch per call, and saves and restores its complete state.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jmsnas.datasets.splits import DatasetSplits, ImageSet
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.supernet.architecture_step import ArchitectureStep
from jmsnas.nas.supernet.checkpoint import StateDict
from jmsnas.nas.supernet.distributed import SINGLE_PROCESS, Ranks
from jmsnas.nas.supernet.training import (
    RunningMetrics,
    batches,
    cosine_schedule,
    steps_of_epoch,
    to_device,
    weight_step,
)
from jmsnas.units import format_duration


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """Metrics of one epoch: a line of `log.jsonl`.

    `stage` is warm-up, search or final; `loss` and `accuracy` are of the training batches under the sampled
    paths, `arch_*` of the architecture batches (None where there are none); `expected_latency_s` is E[T] and
    `entropy` the mean entropy of p in nats, both at the end of the epoch. `derived_*` are of the model
    derived then: its T, and its accuracy on the architecture images with the supernet's weights (Fig. 5);
    `multiplier` is lambda where it is learned.
    """

    stage: str
    epoch: int
    loss: float
    accuracy: float
    arch_loss: float | None
    arch_accuracy: float | None
    expected_latency_s: float | None
    entropy: float | None
    seconds: float
    derived_latency_s: float | None = None
    derived_accuracy: float | None = None
    multiplier: float | None = None

    @property
    def summary(self) -> str:
        """Summary for the progress line."""
        accuracy = self.accuracy if self.derived_accuracy is None else self.derived_accuracy
        parts = [f"{self.stage} {self.epoch}: loss {self.loss:.3f}", f"accuracy {accuracy:.1%}"]
        if self.expected_latency_s is not None and self.entropy is not None:
            parts += [f"E[T] {format_duration(self.expected_latency_s)}", f"entropy {self.entropy:.2f}"]
        if self.derived_latency_s is not None:
            parts.append(f"derived T {format_duration(self.derived_latency_s)}")
        return ", ".join(parts)


EpochCallback = Callable[[EpochRecord], None]
# T of the model that would be derived now, and its accuracy on held-out images; None where none is found.
EvaluateDerived = Callable[[], tuple[float | None, float | None]]


class ArchitectureBatches:
    """Endless batches of the architecture images, round after round; its position can be saved."""

    def __init__(self, images: ImageSet, batch_size: int, seed: int, ranks: Ranks = SINGLE_PROCESS) -> None:
        self.images, self.batch_size, self.seed, self.ranks = images, batch_size, seed, ranks
        self.round, self.taken = 0, 0
        self._batches: Iterator[tuple[Tensor, Tensor]] | None = None

    def next(self) -> tuple[Tensor, Tensor]:
        """Return this rank's part of the next batch."""
        size, seed, ranks = self.batch_size, self.seed, self.ranks
        while True:
            if self._batches is None:
                self._batches = batches(
                    self.images, size, seed, "architecture", self.round, self.taken, ranks
                )
            found = next(self._batches, None)
            if found is not None:
                self.taken += 1
                return found
            self.round, self.taken, self._batches = self.round + 1, 0, None

    def state(self) -> StateDict:
        """Return the position."""
        return {"round": self.round, "taken": self.taken}

    def restore(self, state: StateDict) -> None:
        """Restore a position."""
        self.round, self.taken, self._batches = state["round"], state["taken"], None


def optimizer_for(config: SearchConfig, module: nn.Module) -> torch.optim.Optimizer:
    """Make the optimiser of the weights; its weight decay is the gradient of lambda1 ||theta||^2."""
    decay = 2 * config.lambda1
    if config.optimizer == "adam":
        return torch.optim.Adam(module.parameters(), config.lr, weight_decay=decay)
    # Not fused: that fails where some weights have a momentum and others were on no path yet.
    return torch.optim.SGD(module.parameters(), config.lr, config.momentum, weight_decay=decay, nesterov=True)


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def _rates(config: SearchConfig, images: ImageSet, epoch: int, epochs: int) -> list[float]:
    """Compute the learning rate of each step of an epoch.

    It falls at every step: with few epochs a rate per epoch would end far above 0.
    """
    steps = steps_of_epoch(len(images), config.batch_size)
    return [config.lr * cosine_schedule(epoch * steps + step, epochs * steps) for step in range(steps)]


class StageOne:
    """Warm-up of the weights (uniform paths), then weights and alpha alternately, batch by batch."""

    def __init__(
        self,
        config: SearchConfig,
        arch: ArchitectureStep,
        splits: DatasetSplits,
        device: torch.device,
        evaluate_derived: EvaluateDerived,
    ) -> None:
        self.config, self.arch, self.splits, self.device = config, arch, splits, device
        self.evaluate_derived = evaluate_derived
        self.epochs, self.epoch, self.ranks = config.warmup_epochs + config.search_epochs, 0, arch.ranks
        self.optimizer = optimizer_for(config, arch.supernet)
        self.held_out = ArchitectureBatches(splits.arch, config.batch_size, config.seed, self.ranks)
        self.model = self.ranks.wrap(arch.supernet, one_path=True)

    def run_epoch(self) -> EpochRecord:
        """Train one epoch and return its record."""
        config, arch, began = self.config, self.arch, time.perf_counter()
        warm, weights, alphas = self.epoch < config.warmup_epochs, RunningMetrics(), RunningMetrics()
        ramp = (self.epoch + 1 - config.warmup_epochs) / max(config.search_epochs, 1)
        arch.supernet.train()
        images, ranks = self.splits.train, self.ranks
        rates = _rates(config, images, self.epoch, self.epochs)
        taken = batches(images, config.batch_size, config.seed, "weights", self.epoch, ranks=ranks)
        for rate, batch in zip(rates, taken, strict=True):
            _set_lr(self.optimizer, rate)
            x, labels = to_device(*batch, self.device)
            path = arch.sample_path()
            step = weight_step(self.model, (x, path), labels, self.optimizer, "stage one")
            weights.add(*step, len(labels))
            if not warm:
                x, labels = to_device(*self.held_out.next(), self.device)
                alphas.add(*arch.step(x, labels, ramp), len(labels))
        self.epoch += 1
        weights = weights.over(ranks)
        if warm:
            return self._epoch("warm-up", weights, None, (None, None), began)
        return self._epoch("search", weights, alphas.over(ranks), self.evaluate_derived(), began)

    def _epoch(
        self,
        stage: str,
        weights: RunningMetrics,
        alphas: RunningMetrics | None,
        derived: tuple[float | None, float | None],
        began: float,
    ) -> EpochRecord:
        learned = self.config.constraint == "multiplier" and alphas is not None
        return EpochRecord(
            stage,
            self.epoch,
            weights.loss,
            weights.accuracy,
            alphas.loss if alphas else None,
            alphas.accuracy if alphas else None,
            self.arch.expected().latency_s,
            self.arch.entropy(),
            time.perf_counter() - began,
            *derived,
            self.arch.constraint.multiplier if learned else None,
        )

    def state(self) -> StateDict:
        """Return everything that the next epoch depends on."""
        return {
            "epoch": self.epoch,
            "weights": self.arch.supernet.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "held_out": self.held_out.state(),
            **self.arch.state(),
        }

    def restore(self, state: StateDict) -> None:
        """Restore a state."""
        self.epoch = state["epoch"]
        self.arch.supernet.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.held_out.restore(state["held_out"])
        self.arch.restore(state)


class StageTwo:
    """Training of the derived model, starting from the supernet's weights."""

    def __init__(
        self,
        config: SearchConfig,
        model: nn.Module,
        images: ImageSet,
        device: torch.device,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        self.config, self.module, self.images = config, model, images
        self.device, self.ranks = device, ranks
        self.epochs, self.epoch = config.final_epochs, 0
        self.optimizer = optimizer_for(config, model)
        self.model = ranks.wrap(model, one_path=False)

    def run_epoch(self) -> EpochRecord:
        """Train one epoch and return its record."""
        config, began, tally, ranks = self.config, time.perf_counter(), RunningMetrics(), self.ranks
        self.module.train()
        rates = _rates(config, self.images, self.epoch, self.epochs)
        taken = batches(self.images, config.batch_size, config.seed, "final", self.epoch, ranks=ranks)
        for rate, batch in zip(rates, taken, strict=True):
            _set_lr(self.optimizer, rate)
            x, labels = to_device(*batch, self.device)
            tally.add(*weight_step(self.model, (x,), labels, self.optimizer, "stage two"), len(labels))
        ranks.take_first(self.module.buffers())
        self.epoch, tally, seconds = self.epoch + 1, tally.over(ranks), time.perf_counter() - began
        return EpochRecord("final", self.epoch, tally.loss, tally.accuracy, None, None, None, None, seconds)

    def state(self) -> StateDict:
        """Return everything that the next epoch depends on."""
        return {
            "epoch": self.epoch,
            "weights": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: StateDict) -> None:
        """Restore a state."""
        self.epoch = state["epoch"]
        self.module.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
