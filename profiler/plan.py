"""What a sweep measures, shown before it starts: the space's blocks, and what makes U(.) hold beyond them."""

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

_DRAWN_A_NETWORK = 30


@dataclass(frozen=True, slots=True)
class ProfilePlan:
    """What to measure, group by group: (what it is, in words; blocks or parts)."""

    groups: tuple[tuple[str, tuple[BlockOrPart, ...]], ...]

    @property
    def subjects(self) -> tuple[BlockOrPart, ...]:
        """All blocks and parts, each once, in the order of the groups."""
        return tuple(dict.fromkeys(subject for _, group in self.groups for subject in group))

    def missing(self, table: LatencyTable | None, key: RuntimeKey) -> int:
        """How many of them a sweep would measure under a key: no sound row is in the table."""
        return len(select_to_measure(table or LatencyTable("none", (), {}), key, self.subjects, refine=False))


def make_profile_plan(
    space: SearchSpace, off_grid: int = 0, parts: int = 0, mobilenets: bool = False, seed: int = 0
) -> ProfilePlan:
    """Choose what to measure for a space.

    Parameters
    ----------
    space
        Every candidate of every distinct layer, stem and head among them.
    off_grid
        How many blocks of other widths and resolutions, between and around those of the space.
    parts
        How many whole networks of the space, drawn and spread over their cost: sums of blocks are corrected
        by them.
    mobilenets
        Whether the blocks of MobileNet V1, V2 and V3 at the space's input, for the baselines.
    seed
        Of what is drawn.

    Raises
    ------
    InputError
        For a negative number.
    """
    if off_grid < 0 or parts < 0:
        raise InputError(
            f"cannot measure {off_grid} off-grid blocks and {parts} networks: expected 0 or more of each"
        )
    groups: list[tuple[str, tuple[BlockOrPart, ...]]] = [
        (f"every candidate of every distinct layer of {space.name}", space.blocks())
    ]
    if off_grid:
        groups.append(("off the grid: other widths and resolutions", off_grid_blocks(space, off_grid, seed)))
    if mobilenets:
        networks = [mobilenet(name, space.input_shape, space.classes) for name in NAMES]
        blocks = dict.fromkeys(block for network in networks for block in network.blocks)
        groups.append(("blocks of MobileNet V1, V2 and V3", tuple(blocks)))
    if parts:
        groups.append(("whole networks, to correct sums by", sample_models(space, parts, seed)))
    return ProfilePlan(tuple(groups))


def sample_models(space: SearchSpace, count: int, seed: int = 0) -> tuple[Part, ...]:
    """Draw networks of a space, spread evenly over the MACs of 30 times as many random ones."""
    generator = np.random.default_rng(seed)
    drawn = sorted({_random_network(space, generator) for _ in range(_DRAWN_A_NETWORK * count)}, key=_macs)
    places = np.linspace(0, len(drawn) - 1, count).round().astype(int)
    return tuple(dict.fromkeys(drawn[place] for place in places))


def _random_network(space: SearchSpace, generator: np.random.Generator) -> Part:
    # A layer of each network draws from its own share of Identity, so that shallow and deep ones appear.
    shallow = generator.random()
    blocks = []
    for layer, choices in zip(space.layers, space.choices, strict=True):
        others = [candidate for candidate in choices if candidate.op != "identity"] or list(choices)
        skipped = [candidate for candidate in choices if candidate.op == "identity"]
        chosen = skipped if skipped and generator.random() < shallow else others
        blocks.append(Block(chosen[int(generator.integers(len(chosen)))], layer))
    return Part(tuple(blocks))


def _macs(part: Part) -> tuple[int, str]:
    return cost(part).macs, str(part)


def max_duration_s(
    missing: Sequence[int], a_block_s: float, budget_s: float | None, starting_s: float
) -> float:
    """Bound a sweep: for each key that lacks blocks the sampling, a tenth again, and two processes' start."""
    return sum(
        (budget_s if budget_s is not None else 1.1 * a_block_s * count) + 2 * starting_s
        for count in missing
        if count or budget_s is not None
    )
