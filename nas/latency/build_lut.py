"""Fill the latency table of a search space: every block on every device of a chain or a mesh.

N layers, R candidates, M devices, L = N + 1 outputs (output 0 is the raw input).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray
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
    """An estimator U(.) of a device's latencies."""

    def predict_s(self, blocks: Sequence[Block]) -> FloatArray:
        """Predict the latency of each block in seconds."""


def build_lut(
    space: SearchSpace, topology: Topology, predictors: Mapping[str, Predictor], split: str = "joint"
) -> LatencyLUT:
    """Predict the latency of every block of a space on every device of a topology.

    `predictors`: U(.) by the devices' names. `split`: `joint`, where cuts are free under the topology's
    policy and limits, or `fixed`, where each device runs its `layers` of the topology, or an equal part.
    Raises TopologyError when layers of the space, devices and policy do not fit together.
    """
    if split not in ("joint", "fixed"):
        raise TopologyError(f"unknown split {split!r}: expected joint or fixed")
    if len(topology.children) < len(space.branches) or bool(topology.children) != bool(space.branches):
        raise TopologyError(
            f"topology {topology.name} has {len(topology.children)} children, space {space.name} "
            f"{len(space.branches)} branches: expected one branch per child, or neither on a chain"
        )
    U_NRM, mask_NR = _fill(space, topology, predictors)
    main_path = _main_path(space, topology, U_NRM, mask_NR)
    if split == "fixed":
        main_path = fixed_split(main_path, [topology.device(name) for name in topology.main_path])
    return _mesh(space, topology, U_NRM, mask_NR, main_path) if space.branches else main_path


def _fill(
    space: SearchSpace, topology: Topology, predictors: Mapping[str, Predictor]
) -> tuple[FloatArray, BoolArray]:
    U_NRM = np.zeros((space.N, space.R, topology.M))
    mask_NR = np.zeros((space.N, space.R), dtype=bool)
    pairs = [(n, i) for n, choices in enumerate(space.choices) for i in range(len(choices))]
    blocks = [Block(space.choices[n][i], space.layers[n]) for n, i in pairs]
    rows, columns = (list(index) for index in zip(*pairs, strict=True))
    mask_NR[rows, columns] = True
    tables: dict[tuple[str, str], FloatArray] = {}
    for m, device in enumerate(topology.devices):
        key = (device.table, device.runtime)
        if key not in tables:
            tables[key] = predictors[device.name].predict_s(blocks)
        U_NRM[rows, columns, m] = tables[key]
    return U_NRM, mask_NR


def sent_bytes(space: SearchSpace, topology: Topology) -> FloatArray:
    """Compute the bytes of output n (row 0: the encoded raw input) on the link after device m; (L, M).

    The last column is 0, and so is the root's: what it sends is part of the branches' terms.
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
    """Links along the devices in line with the index of their source; none after the root of a tree."""
    line = topology.main_path
    pairs = enumerate(zip(line, line[1:], strict=False))
    return [(m, topology.link(*hop)) for m, hop in pairs if hop[0] != topology.root]


def _main_path(space: SearchSpace, topology: Topology, U_NRM: FloatArray, mask_NR: BoolArray) -> ChainLUT:
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
    if joint:  # outputs that are never sent over a link of the main path
        epsilon_LM[joint[0] + 1 :, : joint[1]] = 0.0
        epsilon_LM[: joint[0], joint[1] :] = 0.0
    return_M = _return_s(space, topology) if topology.returns else np.zeros(0)
    call_M = np.array([device.call_s for device in devices])
    states, moves_LMM = _moves(epsilon_LM, topology.policy, limits, return_M, call_M, joint)
    own_NRM = U_NRM[line][:, :, columns]
    energy_LM = epsilon_LM.copy()
    if joint:
        energy_LM[joint[0], joint[1] - 1] = _root_sending_s(space, topology)
    line_space = space if not joint else _only(space, line)
    return ChainLUT(
        devices=topology.main_path,
        policy=topology.policy,
        U_NRM=own_NRM,
        mask_NR=mask_NR[line],
        epsilon_LM=epsilon_LM,
        moves_LMM=moves_LMM,
        sent_LM=sent_LM,
        states=() if states == tuple(range(M)) else states,
        return_M=return_M,
        limits=limits,
        resources=device_resources(line_space, devices, own_NRM, energy_LM),
        joint=joint,
        call_M=call_M,
    )


def _moves(
    epsilon_LM: FloatArray,
    policy: str,
    limits: DeviceLimits,
    return_M: FloatArray,
    call_M: FloatArray,
    joint: tuple[int, int] | None,
) -> tuple[tuple[int, ...], FloatArray]:
    return_M = return_M if return_M.size else np.zeros(epsilon_LM.shape[1])
    if joint is None:
        return concatenate_moves((allowed_moves(epsilon_LM, policy, limits, return_M, call_M),))
    n, m = joint
    trunk = DeviceLimits(limits.min_layers_M[:m], limits.max_layers_M[:m])
    tail = DeviceLimits(limits.min_layers_M[m:], limits.max_layers_M[m:])
    trunk_policy = "strict" if policy == "strict" else "relay"
    before = allowed_moves(epsilon_LM[: n + 1, :m], trunk_policy, trunk, call_M=call_M[:m])
    behind = allowed_moves(epsilon_LM[n:, m:], policy, tail, return_M[m:], call_M[m:])
    return concatenate_moves((before, behind))


def _return_s(space: SearchSpace, topology: Topology) -> FloatArray:
    """Seconds to return the logits from each device in line to the first, over the same links; (M,)."""
    elements, line = space.layers[-1].output_elements, topology.main_path
    seconds = [0.0]
    for one, after in zip(line, line[1:], strict=False):
        if one == topology.root:
            hops = [(topology.link(one, k), topology.link(k, after)) for k in topology.children]
            ways = [sum(link.epsilon_s(elements * WIRE_BYTES[link.wire]) for link in hop) for hop in hops]
        else:
            link = topology.link(one, after)
            ways = [link.epsilon_s(elements * WIRE_BYTES[link.wire])]
        seconds.append(seconds[-1] + min(ways))
    return np.array(seconds)


def _tree(space: SearchSpace, topology: Topology) -> tuple[list[tuple[Link, Link]], list[float], list[float]]:
    """Links from the root to each child and from each child to the join, and the bytes sent over them."""
    behind = topology.main_path[topology.main_path.index(topology.root) + 1]
    links = [(topology.link(topology.root, k), topology.link(k, behind)) for k in topology.children]
    forked = space.layers[space.trunk - 1].output_elements
    joined = space.layers[space.branches[-1][-1]].output_elements
    to = [float(forked * WIRE_BYTES[link.wire]) for link, _ in links]
    return links, to, [float(joined * WIRE_BYTES[link.wire]) for _, link in links]


def _root_sending_s(space: SearchSpace, topology: Topology) -> float:
    """Seconds the root sends: a broadcast takes as long as to its slowest receiver, copies add up."""
    links, to, _ = _tree(space, topology)
    times = [link.epsilon_s(size) for (link, _), size in zip(links, to, strict=True)]
    return max(times) if topology.fan_out == "broadcast" else sum(times)


def _only(space: SearchSpace, line: Sequence[int]) -> SearchSpace:
    layers, choices = tuple(space.layers[n] for n in line), tuple(space.choices[n] for n in line)
    return SearchSpace(space.name, space.input_shape, space.classes, layers, choices)


def _mesh(
    space: SearchSpace, topology: Topology, U_NRM: FloatArray, mask_NR: BoolArray, main_path: ChainLUT
) -> MeshLUT:
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
        devices=tuple(names),
        policy=topology.policy,
        U_NRM=U_NRM,
        mask_NR=mask_NR,
        main_path=main_path,
        main_path_layers=space.main_path,
        branch_layers=space.branches,
        children=children,
        epsilon_root_K=root_K,
        epsilon_K=behind_K,
        sent_root_bytes=to[0],
        sent_K=np.array(sent),
        fan_out=topology.fan_out,
        lengths_2K=np.array([[d.min_layers for d in devices], most]),
        resources=device_resources(
            space, devices, U_NRM[:, :, list(children)], np.tile(behind_K, (space.N + 1, 1))
        ),
        raw_input=(raw_s, raw_bytes),
        call_K=np.array([device.call_s for device in devices]),
    )
