"""The pieces of a split, in the order data meets them, and the segments they are cut from."""

from jmsnas.deploy.parts.shipment import NextHop, PartSpec
from jmsnas.nas.split.placement import Placement
from jmsnas.space import SearchSpace
from jmsnas.topology import Topology


def split_part_specs(space: SearchSpace, topology: Topology, placement: Placement) -> tuple[PartSpec, ...]:
    """Make the pieces of a split of a chain or a mesh, in the order data meets them.

    Devices behind the one that ran the last layer are left out: the result stays where it is.
    """
    line, cuts = topology.main_path, placement.cuts
    starts = (0, *cuts[:-1])
    last = max(m for m, (start, cut) in enumerate(zip(starts, cuts, strict=True)) if cut > start)
    root = line.index(topology.root) if topology.root else len(line)
    last = max(last, root + 1) if topology.root else last
    part_specs: list[PartSpec] = []
    for m in range(last + 1):
        segment, offset = ("chain", 0) if not topology.root else ("trunk", 0)
        if m > root:
            segment, offset = "tail", space.trunk
        joined = len(space.branches) if m == root + 1 and len(space.branches) > 1 else 0
        targets: tuple[NextHop, ...] = ()
        if m == root:
            order = [topology.children[k] for k in placement.children]
            targets = tuple(NextHop(child, topology.link(line[m], child).wire) for child in order)
        elif m < last:
            wire = topology.input_encoding if cuts[m] == 0 else topology.link(line[m], line[m + 1]).wire
            targets = (NextHop(line[m + 1], wire),)
        part_specs.append(
            PartSpec(line[m], segment, starts[m] - offset + 1, cuts[m] - offset, targets, joined)
        )
        if m == root:
            part_specs += _branch_pieces(space, topology, placement, line[m + 1])
    return tuple(part_specs)


def _branch_pieces(
    space: SearchSpace, topology: Topology, placement: Placement, behind: str
) -> list[PartSpec]:
    found = []
    for b, (layers, k) in enumerate(zip(space.branches, placement.children, strict=True)):
        child = topology.children[k]
        target = NextHop(behind, topology.link(child, behind).wire, b)
        found.append(PartSpec(child, f"branch{b + 1}", 1, len(layers), (target,)))
    return found


def segment_layers(space: SearchSpace) -> dict[str, tuple[int, ...]]:
    """Places of each segment's layers in the space: one chain, or trunk, branches and tail."""
    if not space.branches:
        return {"chain": tuple(range(space.N))}
    branches = {f"branch{b + 1}": layers for b, layers in enumerate(space.branches)}
    tail = tuple(n for n in space.main_path if n >= space.trunk)
    return {"trunk": tuple(range(space.trunk)), **branches, "tail": tail}
