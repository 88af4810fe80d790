"""The two stages of training (section V-B): the supernet with its alphas, then the derived network."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jmsnas.datasets.splits import Images, Splits
from jmsnas.nas.architecture_step import ArchitectureStep
from jmsnas.nas.config import SearchConfig
from jmsnas.nas.training import Tally, batches, cosine, to_device, weight_step


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of the log.

    `stage` is warm-up, search or final; `loss` and `accuracy` are of the training batches under the sampled
    paths, `arch_*` of the architecture batches (None where there were none); `expected_latency_s` is E[T] and
    `entropy` the mean entropy of the choices in nats, both at the end of the epoch.
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


Report = Callable[[Epoch], None]


def _endless(images: Images, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches(images, batch_size, generator)


def _sgd(config: SearchConfig, module: nn.Module) -> torch.optim.SGD:
    # The gradient of lambda1 ||theta||^2 is 2 lambda1 theta. Not fused: it fails on weights that no path
    # has touched yet, beside others that have a momentum.
    decay = 2 * config.lambda1
    return torch.optim.SGD(module.parameters(), config.lr, config.momentum, weight_decay=decay, nesterov=True)


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def stage_one(
    config: SearchConfig, arch: ArchitectureStep, splits: Splits, device: torch.device, report: Report
) -> None:
    """Warm-up on the weights alone (uniform paths), then weights and alphas in turn, batch by batch."""
    supernet, epochs = arch.supernet, config.warmup_epochs + config.search_epochs
    order = torch.Generator().manual_seed(config.seed)
    held_out = _endless(splits.arch, config.batch_size, torch.Generator().manual_seed(config.seed + 1))
    optimizer = _sgd(config, supernet)
    supernet.train()
    for epoch in range(epochs):
        warm, began = epoch < config.warmup_epochs, time.perf_counter()
        weights, alphas = Tally(), Tally()
        _set_lr(optimizer, config.lr * cosine(epoch, epochs))
        for batch in batches(splits.train, config.batch_size, order):
            x, labels = to_device(*batch, device)
            path = arch.sample_path()
            weights.add(*weight_step(supernet, (x, path), labels, optimizer, "stage one"), len(labels))
            if not warm:
                x, labels = to_device(*next(held_out), device)
                alphas.add(*arch.step(x, labels), len(labels))
        report(
            Epoch(
                "warm-up" if warm else "search",
                epoch + 1,
                weights.loss,
                weights.accuracy,
                None if warm else alphas.loss,
                None if warm else alphas.accuracy,
                arch.expected().latency_s,
                arch.entropy(),
                time.perf_counter() - began,
            )
        )


def stage_two(
    config: SearchConfig, network: nn.Module, images: Images, device: torch.device, report: Report
) -> None:
    """Train the derived network on, from the supernet's weights."""
    order = torch.Generator().manual_seed(config.seed + 2)
    optimizer = _sgd(config, network)
    network.train()
    for epoch in range(config.final_epochs):
        began, tally = time.perf_counter(), Tally()
        _set_lr(optimizer, config.lr * cosine(epoch, config.final_epochs))
        for batch in batches(images, config.batch_size, order):
            x, labels = to_device(*batch, device)
            tally.add(*weight_step(network, (x,), labels, optimizer, "stage two"), len(labels))
        seconds = time.perf_counter() - began
        report(Epoch("final", epoch + 1, tally.loss, tally.accuracy, None, None, None, None, seconds))
