"""Supernet of section IV-A: every candidate of every layer, of which one runs per step.

N layers, R candidates; x is (batch, channels, height, width). On a mesh the trunk's output is the input of
every branch, and the sum of the branches' outputs that of the tail.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from jmsnas.architecture import Architecture
from jmsnas.blocks import build_module
from jmsnas.nas.supernet.gates import TwoPaths
from jmsnas.nas.supernet.initialisation import initialise_as_identity
from jmsnas.space import Block, SearchSpace


class _Gate(torch.autograd.Function):
    """g_a v_a(x) + g_b v_b(x) at g = (1, 0): value v_a, gate gradients dL/dg_j = sum(dL/dy * v_j)."""

    @staticmethod
    def forward(ctx: Any, active: Tensor, other: Tensor, gates_2: Tensor) -> Tensor:
        ctx.save_for_backward(active, other)
        return active.view_as(active)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor]:
        active, other = ctx.saved_tensors
        (gradient,) = gradients
        return (
            gradient,
            None,
            torch.stack([(gradient * value).sum(dtype=torch.float32) for value in (active, other)]),
        )


def gate(active: Tensor, other: Tensor, gates_2: Tensor) -> Tensor:
    """Return the output of the active path; backward gives `gates_2` both gradients (equation (8)).

    `other` may be computed without a graph: no gradient flows back through it.
    """
    return cast(Tensor, _Gate.apply(active, other, gates_2))


def run_layers(space: SearchSpace, layer: Callable[[int, Tensor], Tensor], x: Tensor) -> Tensor:
    """Run `layer(n, x)` over all layers of a space in the order of the data flow."""
    for n in range(space.trunk):
        x = layer(n, x)
    if not space.branches:
        return x
    joined: Tensor | None = None
    for branch in space.branches:
        y = x
        for n in branch:
            y = layer(n, y)
        joined = y if joined is None else joined + y
    assert joined is not None
    for n in range(space.branches[-1][-1] + 1, space.N):
        joined = layer(n, joined)
    return joined


class DerivedModel(nn.Sequential):
    """Model of an architecture: one module per layer, named by its index; branches are summed."""

    def __init__(self, space: SearchSpace, layers: Sequence[nn.Module]) -> None:
        super().__init__(*layers)
        self.space = space

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits, (batch, classes)."""
        return run_layers(self.space, lambda n, y: cast(Tensor, self[n](y)), x)


class Supernet(nn.Module):
    """Modules of every candidate of every layer of a space.

    All candidates of a layer start as nearly the same function (see initialisation.py). BatchNorm uses batch
    statistics and never updates running ones, which would mix the statistics of different paths: derived
    models are recalibrated (see training.recalibrate).
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.layers = nn.ModuleList(
            nn.ModuleList(build_module(Block(candidate, layer)) for candidate in choices)
            for layer, choices in zip(space.layers, space.choices, strict=True)
        )
        for n, choices in enumerate(space.choices):
            for i in range(len(choices)):
                initialise_as_identity(self.candidate(n, i), torch.Generator().manual_seed(n))
        set_batchnorm_momentum(self, 0.0)

    def candidate(self, n: int, i: int) -> nn.Module:
        """Module of candidate i of layer n, both counted from 0."""
        return cast(nn.ModuleList, self.layers[n])[i]

    def forward(self, x: Tensor, active: Sequence[int]) -> Tensor:
        """Run one path, candidate `active[n]` at layer n; logits, (batch, classes)."""
        return run_layers(self.space, lambda n, y: cast(Tensor, self.candidate(n, active[n])(y)), x)

    def forward_two(self, x: Tensor, paths: TwoPaths, gates_N2: Tensor) -> Tensor:
        """Run the active path; backward then gives `gates_N2` dL/dg of both paths.

        The other path runs without a graph: only its value enters Lemma 1.
        """
        return run_layers(self.space, lambda n, y: self._two(n, y, paths, gates_N2), x)

    def _two(self, n: int, x: Tensor, paths: TwoPaths, gates_N2: Tensor) -> Tensor:
        a, b = paths.active[n], paths.other[n]
        if a == b:
            return cast(Tensor, self.candidate(n, a)(x))
        with torch.no_grad():
            other = self.candidate(n, b)(x)
        return gate(self.candidate(n, a)(x), other, gates_N2[n])

    def derived(self, architecture: Architecture) -> nn.Sequential:
        """Make the model of an architecture from the supernet's modules (shared, not copied)."""
        chosen = architecture.indices(self.space)
        return DerivedModel(self.space, [self.candidate(n, i) for n, i in enumerate(chosen)])


def set_batchnorm_momentum(module: nn.Module, momentum: float | None) -> None:
    """Set the momentum of BatchNorm's running statistics: 0 freezes them, None averages all batches."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = momentum
