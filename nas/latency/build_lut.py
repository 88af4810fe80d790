"""From a space, a network and U(.) of its devices to the filled array: of a chain or of a mesh.

N layers, R candidates, M devices, L = N + 1 outputs (output 0 is the raw input).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import TopologyError
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.latency.fixed_split import check_layer_counts, fixed_split
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.latency.policy import allowed_moves, concatenate_moves
from jmsnas.nas.latency.resources import device_resources
from jmsnas.nas.split.solve_chain import DeviceLimits
from jmsnas.space import Block, SearchSpace
from jmsnas.topology import INPUT_BYTES, WIRE_BYTES, Link, Topology

LatencyLUT = ChainLUT | MeshLUT


class Predictor(Protocol):
    """What speaks for a device: U(.)."""

    def predict_s(self, blocks: Sequence[Block]) -> NDArray[np.float64]:
        """Seconds of each block."""


def build_lut(
    space: SearchSpace, topology: Topology, predictors: Mapping[str, Predictor], split: str = "joint"
) -> LatencyLUT:
    """Fill the array once: every block of the space on every device.

    Parameters
    ----------
    predictors
        U(.) by the devices' names in the network.
    split
        `joint`: cuts are free under the network's policy and limits. `fixed`: the layers of each device are
        the network's (`layers` of a device) or equal parts.

    Raises
    ------
    NetworkError
        When the space's layers, the network's devices and its policy do not fit together.
    """
    if split not in ("joint", "fixed"):
        raise TopologyError(f"unknown split {split!r}: expected joint or fixed")
    if len(topology.children) < len(space.branches) or bool(topology.children) != bool(space.branches):
        raise TopologyError(
            f"network {topology.name} has {len(topology.children)} children, space {space.name} "
            f"{len(space.branches)} branches: expected a branch a child, or none of both on a chain"
        )
    U_NRM, mask_NR = _fill(space, topology, predictors)
    line = _line(space, topology, U_NRM, mask_NR)
    if split == "fixed":
        line = fixed_split(line, [topology.device(name) for name in topology.main_path])
    return _mesh(space, topology, U_NRM, mask_NR, line) if space.branches else line


def _fill(
    space: SearchSpace, topology: Topology, predictors: Mapping[str, Predictor]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    U_NRM = np.zeros((space.N, space.R, topology.M))
    mask_NR = np.zeros((space.N, space.R), dtype=bool)
    places = [(n, i) for n, choices in enumerate(space.choices) for i in range(len(choices))]
    blocks = [Block(space.choices[n][i], space.layers[n]) for n, i in places]
    rows, columns = (list(index) for index in zip(*places, strict=True))
    mask_NR[rows, columns] = True
    tables: dict[tuple[str, str], NDArray[np.float64]] = {}
    for m, device in enumerate(topology.devices):
        same = (device.table, device.runtime)
        if same not in tables:
            tables[same] = predictors[device.name].predict_s(blocks)
        U_NRM[rows, columns, m] = tables[same]
    return U_NRM, mask_NR


def sent_bytes(space: SearchSpace, topology: Topology) -> NDArray[np.float64]:
    """Bytes of output n (row 0: the encoded raw input) on the link behind device m of the line; (L, M).

    The last column is 0, and so is the root's: what it sends is in the branches' terms.
    """
    line = [space.layers[n] for n in space.main_path]
    trunk = space.trunk if space.branches else len(line)
    sent_LM = np.zeros((len(line) + 1, len(topology.main_path)))
    joined = space.layers[space.branches[-1][-1]].output_elements if space.branches else 0
    for m, link in _links(topology):
        wire = WIRE_BYTES[link.wire]
        sizes = [wire * layer.output_elements for layer in line]
        if topology.root and m > topology.main_path.index(topology.root):
            sent_LM[trunk, m] = wire * joined
            sent_LM[trunk + 1 :, m] = sizes[trunk:]
        else:
            sent_LM[0, m] = space.input_elements * INPUT_BYTES[topology.input_encoding]
            sent_LM[1 : trunk + 1, m] = sizes[:trunk]
    return sent_LM


def _links(topology: Topology) -> list[tuple[int, Link]]:
    """Links along the line with the place of their source; none behind the root of a tree."""
    line = topology.main_path
    pairs = enumerate(zip(line, line[1:], strict=False))
    return [(m, topology.link(*hop)) for m, hop in pairs if hop[0] != topology.root]


def _line(
    space: SearchSpace, topology: Topology, U_NRM: NDArray[np.float64], mask_NR: NDArray[np.bool_]
) -> ChainLUT:
    line, devices = list(space.main_path), [topology.device(name) for name in topology.main_path]
    columns = [topology.devices.index(device) for device in devices]
    joint = (space.trunk, topology.main_path.index(topology.root) + 1) if space.branches else None
    N, M = len(line), len(devices)
    least_M = np.array([device.min_layers for device in devices])
    most_M = np.array([N if d.max_layers is None else min(d.max_layers, N) for d in devices])
    limits = DeviceLimits(least_M, most_M)
    parts = [(slice(0, N), slice(0, M))]
    if joint:
        parts = [(slice(0, joint[0]), slice(0, joint[1])), (slice(joint[0], N), slice(joint[1], M))]
    for layers, own in parts:
        names = [device.name for device in devices[own]]
        part = DeviceLimits(least_M[own], most_M[own])
        check_layer_counts(space.name, topology.policy, layers.stop - layers.start, names, part)
    sent_LM = sent_bytes(space, topology)
    epsilon_LM = np.zeros_like(sent_LM)
    for m, link in _links(topology):
        epsilon_LM[:, m] = [link.epsilon_s(size) for size in sent_LM[:, m]]
    if joint:  # rows that a link of the line never carries
        epsilon_LM[joint[0] + 1 :, : joint[1]] = 0.0
        epsilon_LM[: joint[0], joint[1] :] = 0.0
    return_M = _return(space, topology) if topology.returns else np.zeros(0)
    states, moves_LMM = _moves(epsilon_LM, topology.policy, limits, return_M, joint)
    own_NRM = U_NRM[line][:, :, columns]
    energy_LM = epsilon_LM.copy()
    if joint:
        energy_LM[joint[0], joint[1] - 1] = _sending_root_s(space, topology)
    line_space = space if not joint else _only(space, line)
    return ChainLUT(
        topology.main_path,
        topology.policy,
        own_NRM,
        mask_NR[line],
        epsilon_LM,
        moves_LMM,
        sent_LM,
        states=() if states == tuple(range(M)) else states,
        return_M=return_M,
        limits=limits,
        resources=device_resources(line_space, devices, own_NRM, energy_LM),
        joint=joint,
    )


def _moves(
    epsilon_LM: NDArray[np.float64],
    policy: str,
    limits: DeviceLimits,
    return_M: NDArray[np.float64],
    joint: tuple[int, int] | None,
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    back_M = return_M if return_M.size else np.zeros(epsilon_LM.shape[1])
    if joint is None:
        return concatenate_moves((allowed_moves(epsilon_LM, policy, limits, back_M),))
    n, m = joint
    trunk = DeviceLimits(limits.min_layers_M[:m], limits.max_layers_M[:m])
    tail = DeviceLimits(limits.min_layers_M[m:], limits.max_layers_M[m:])
    before = allowed_moves(epsilon_LM[: n + 1, :m], "strict" if policy == "strict" else "relay", trunk)
    return concatenate_moves((before, allowed_moves(epsilon_LM[n:, m:], policy, tail, back_M[m:])))


def _return(space: SearchSpace, topology: Topology) -> NDArray[np.float64]:
    """Seconds to bring the logits from each device of the line to the first, over the same links; (M,)."""
    elements, line = space.layers[-1].output_elements, topology.main_path
    back = [0.0]
    for one, after in zip(line, line[1:], strict=False):
        if one == topology.root:
            hops = [(topology.link(one, k), topology.link(k, after)) for k in topology.children]
            ways = [sum(link.epsilon_s(elements * WIRE_BYTES[link.wire]) for link in hop) for hop in hops]
        else:
            link = topology.link(one, after)
            ways = [link.epsilon_s(elements * WIRE_BYTES[link.wire])]
        back.append(back[-1] + min(ways))
    return np.array(back)


def _tree(space: SearchSpace, topology: Topology) -> tuple[list[tuple[Link, Link]], list[float], list[float]]:
    """Links of each child to and from, and the bytes on them."""
    behind = topology.main_path[topology.main_path.index(topology.root) + 1]
    links = [(topology.link(topology.root, k), topology.link(k, behind)) for k in topology.children]
    forked = space.layers[space.trunk - 1].output_elements
    joined = space.layers[space.branches[-1][-1]].output_elements
    to = [float(forked * WIRE_BYTES[link.wire]) for link, _ in links]
    return links, to, [float(joined * WIRE_BYTES[link.wire]) for _, link in links]


def _sending_root_s(space: SearchSpace, topology: Topology) -> float:
    """How long the root sends: one broadcast as long as its slowest receiver, or all copies."""
    links, to, _ = _tree(space, topology)
    times = [link.epsilon_s(size) for (link, _), size in zip(links, to, strict=True)]
    return max(times) if topology.fan_out == "broadcast" else sum(times)


def _only(space: SearchSpace, line: Sequence[int]) -> SearchSpace:
    layers, choices = tuple(space.layers[n] for n in line), tuple(space.choices[n] for n in line)
    return SearchSpace(space.name, space.input_shape, space.classes, layers, choices)


def _mesh(
    space: SearchSpace,
    topology: Topology,
    U_NRM: NDArray[np.float64],
    mask_NR: NDArray[np.bool_],
    line: ChainLUT,
) -> MeshLUT:
    if topology.policy == "strict" and len(topology.children) > len(space.branches):
        raise TopologyError(
            f"policy strict gives each of {len(topology.children)} children a branch, space {space.name} has "
            f'{len(space.branches)}: use fewer children, or policy = "relay" in the network file'
        )
    names = [device.name for device in topology.devices]
    children = tuple(names.index(child) for child in topology.children)
    devices = [topology.devices[m] for m in children]
    links, to, sent = _tree(space, topology)
    root_K = np.array([link.epsilon_s(size) for (link, _), size in zip(links, to, strict=True)])
    behind_K = np.array([link.epsilon_s(size) for (_, link), size in zip(links, sent, strict=True)])
    raw_bytes = float(space.input_elements * INPUT_BYTES[topology.input_encoding])
    raw_s = sum(link.epsilon_s(raw_bytes) for _, link in _links(topology))
    raw_s += min(one.epsilon_s(raw_bytes) + other.epsilon_s(raw_bytes) for one, other in links)
    most = [space.N if d.max_layers is None else d.max_layers for d in devices]
    return MeshLUT(
        tuple(names),
        topology.policy,
        U_NRM,
        mask_NR,
        line,
        space.main_path,
        space.branches,
        children,
        root_K,
        behind_K,
        to[0],
        np.array(sent),
        topology.fan_out,
        np.array([[d.min_layers for d in devices], most]),
        device_resources(space, devices, U_NRM[:, :, list(children)], np.tile(behind_K, (space.N + 1, 1))),
        (raw_s, raw_bytes),
    )
