"""Plan a profile: the blocks of a search space, and further blocks and models that U(.) is fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmsnas.cost import cost
from jmsnas.errors import InputError
from jmsnas.mobilenets import NAMES, mobilenet
from jmsnas.profiler.off_grid_blocks import off_grid_blocks
from jmsnas.profiler.selection import select_to_measure
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.space import Block, BlockOrPart, Part, SearchSpace

# Random models that are drawn for each one that is selected.
_DRAWN_PER_MODEL = 30


@dataclass(frozen=True, slots=True)
class ProfilePlan:
    """The blocks and parts to measure, in groups of (description, blocks or parts)."""

    groups: tuple[tuple[str, tuple[BlockOrPart, ...]], ...]

    @property
    def subjects(self) -> tuple[BlockOrPart, ...]:
        """All distinct blocks and parts, in the order of the groups."""
        return tuple(dict.fromkeys(subject for _, group in self.groups for subject in group))

    def missing(self, table: LatencyTable | None, key: RuntimeKey) -> int:
        """Count the blocks and parts that a profile would measure under a runtime key."""
        table = table or LatencyTable("none", (), {})
        return len(select_to_measure(table, key, self.subjects, refine=False))


def make_profile_plan(
    space: SearchSpace, off_grid: int = 0, parts: int = 0, mobilenets: bool = False, seed: int = 0
) -> ProfilePlan:
    """Plan what to measure for a search space. Raises InputError for a negative number.

    Parameters
    ----------
    space
        Every candidate of every distinct layer is measured, including stem and head.
    off_grid
        Number of blocks of other widths and resolutions, between and around those of the space.
    parts
        Number of whole models of the space, spread over their cost, to correct sums of block latencies.
    mobilenets
        Whether to add the blocks of MobileNet V1, V2 and V3 at the space's input size, for the baselines.
    seed
        Seed of the random blocks and models.
    """
    if off_grid < 0 or parts < 0:
        raise InputError(
            f"cannot measure {off_grid} off-grid blocks and {parts} models: expected 0 or more of each"
        )
    groups: list[tuple[str, tuple[BlockOrPart, ...]]] = [
        (f"every candidate of every distinct layer of {space.name}", space.blocks())
    ]
    if off_grid:
        groups.append(("off the grid: other widths and resolutions", off_grid_blocks(space, off_grid, seed)))
    if mobilenets:
        models = [mobilenet(name, space.input_shape, space.classes) for name in NAMES]
        blocks = dict.fromkeys(block for model in models for block in model.blocks)
        groups.append(("blocks of MobileNet V1, V2 and V3", tuple(blocks)))
    if parts:
        groups.append(("whole models, to correct sums of blocks", sample_models(space, parts, seed)))
    return ProfilePlan(tuple(groups))


def sample_models(space: SearchSpace, count: int, seed: int = 0) -> tuple[Part, ...]:
    """Sample models of a space, spread evenly over the MACs of 30 times as many random ones."""
    generator = np.random.default_rng(seed)
    drawn = sorted({_random_model(space, generator) for _ in range(_DRAWN_PER_MODEL * count)}, key=_macs)
    positions = np.linspace(0, len(drawn) - 1, count).round().astype(int)
    return tuple(dict.fromkeys(drawn[position] for position in positions))


def _random_model(space: SearchSpace, generator: np.random.Generator) -> Part:
    # Each model has its own probability of Identity layers, so that both shallow and deep models occur.
    identity_share = generator.random()
    blocks = []
    for layer, choices in zip(space.layers, space.choices, strict=True):
        others = [candidate for candidate in choices if candidate.op != "identity"] or list(choices)
        identities = [candidate for candidate in choices if candidate.op == "identity"]
        chosen = identities if identities and generator.random() < identity_share else others
        blocks.append(Block(chosen[int(generator.integers(len(chosen)))], layer))
    return Part(tuple(blocks))


def _macs(part: Part) -> tuple[int, str]:
    return cost(part).macs, str(part)


def max_duration_s(
    missing: Sequence[int], per_block_s: float, budget_s: float | None, start_s: float
) -> float:
    """Bound the duration of a profile: per key the sampling, a tenth of it again, two process starts.

    `missing` holds the number of missing blocks of each key.
    """
    return sum(
        (budget_s if budget_s is not None else 1.1 * per_block_s * count) + 2 * start_s
        for count in missing
        if count or budget_s is not None
    )
