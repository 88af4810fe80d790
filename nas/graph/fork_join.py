"""A network that forks once and joins again, over a mesh of devices: the shape equation (2) speaks of.

The trunk's output goes to every branch, the branches' outputs are summed, the tail runs behind them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.topology import Topology


@dataclass(frozen=True, slots=True)
class MeshTree:
    """The tree of a mesh by its devices' names; `fan_out` as of `Topology`."""

    root: str
    children: tuple[str, ...]
    fan_out: str = "broadcast"


@dataclass(frozen=True, slots=True)
class ForkJoin:
    """Places of units: of the trunk, of each branch, of the tail."""

    trunk: range
    branches: tuple[range, ...]
    tail: range


def mesh_tree(topology: Topology) -> MeshTree | None:
    """Give the tree of a mesh, None of a chain."""
    return MeshTree(topology.root, topology.children, topology.fan_out) if topology.root else None


def find_fork_join(inputs: Sequence[tuple[int, ...]]) -> ForkJoin | None:
    """Find trunk, branches and tail in the outputs each unit takes (see `Dag`); None where there are none."""
    breaks = [n for n, outputs in enumerate(inputs) if outputs != (n,)]
    if len(breaks) < 2:
        return None
    *starts, join = breaks
    trunk, stops = inputs[starts[0]][0], (*starts, join)
    same = all(inputs[n] == (trunk,) for n in starts)
    if not 0 < trunk < starts[0] or not same or sorted(inputs[join]) != list(stops):
        return None
    begins = (trunk, *starts)
    branches = tuple(range(begin, stop) for begin, stop in zip(begins, stops, strict=True))
    return ForkJoin(range(trunk), branches, range(join, len(inputs)))


def fork_join_inputs(N: int, branches: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Give the outputs each of N units takes when the units at these places are parallel branches."""
    inputs: list[tuple[int, ...]] = [(n,) for n in range(N)]
    for branch in branches:
        inputs[branch[0]] = (branches[0][0],)
    if branches:
        inputs[branches[-1][-1] + 1] = tuple(branch[-1] + 1 for branch in branches)
    return tuple(inputs)
