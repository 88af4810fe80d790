"""Models that fork once and join again, as equation (2) splits them over the tree of a mesh.

The trunk's output goes to every branch, the branches' outputs are summed, and the tail runs after them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.topology import Topology


@dataclass(frozen=True, slots=True)
class MeshTree:
    """Root and children of a mesh, by device name; `fan_out` as in `Topology`."""

    root: str
    children: tuple[str, ...]
    fan_out: str = "broadcast"


@dataclass(frozen=True, slots=True)
class ForkJoin:
    """Unit indices of the trunk, of each branch, and of the tail."""

    trunk: range
    branches: tuple[range, ...]
    tail: range


def mesh_tree(topology: Topology) -> MeshTree | None:
    """Give the tree of a mesh, None for a chain."""
    return MeshTree(topology.root, topology.children, topology.fan_out) if topology.root else None


def find_fork_join(inputs: Sequence[tuple[int, ...]]) -> ForkJoin | None:
    """Find trunk, branches and tail in the inputs of each unit (see `Unit`); None where there are none."""
    breaks = [n for n, outputs in enumerate(inputs) if outputs != (n,)]
    if len(breaks) < 2:
        return None
    *starts, join = breaks
    trunk, stops = inputs[starts[0]][0], (*starts, join)
    same = all(inputs[n] == (trunk,) for n in starts)
    if not trunk < starts[0] or not same or sorted(inputs[join]) != list(stops):
        return None
    begins = (trunk, *starts)
    branches = tuple(range(begin, stop) for begin, stop in zip(begins, stops, strict=True))
    return ForkJoin(range(trunk), branches, range(join, len(inputs)))


def fork_join_inputs(N: int, branches: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Make the inputs of N units of which those at these indices are parallel branches."""
    inputs: list[tuple[int, ...]] = [(n,) for n in range(N)]
    for branch in branches:
        inputs[branch[0]] = (branches[0][0],)
    if branches:
        inputs[branches[-1][-1] + 1] = tuple(branch[-1] + 1 for branch in branches)
    return tuple(inputs)
