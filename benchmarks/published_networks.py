"""Read published latency tables of whole networks as counts of blocks and seconds.

docs/estimators.md names the source. Only benchmarks read them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from published_tables import MBConv

from jmsnas.arrays import FloatArray
from jmsnas.cost import Operator, cost, operators
from jmsnas.estimators.networks.block_kinds import BlockKinds, block_kinds_of, count_blocks
from jmsnas.space import Block, Candidate, Layer, Part

# Kernel size, expansion and groups of the 1x1 convolutions of digits 0 to 7; 8 is a skip.
FBNET_OPS = ((3, 1, 1), (3, 1, 2), (3, 3, 1), (3, 6, 1), (5, 1, 1), (5, 1, 2), (5, 3, 1), (5, 6, 1))
SKIP = 8
# Output channels, stride of the first layer, number of layers.
FBNET_STAGES = ((16, 1, 1), (24, 1, 4), (32, 2, 4), (64, 2, 4), (112, 1, 4), (184, 2, 4), (352, 1, 1))
# Output channels, stride of the first layer, activation, squeeze-and-excite; depths vary.
OFA_STAGES = (
    (24, 2, "re", False),
    (40, 2, "re", True),
    (80, 2, "hs", False),
    (112, 1, "hs", True),
    (160, 2, "hs", True),
)


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks of one search space, measured on one device.

    Attributes
    ----------
    kinds, counts
        Inputs of `NetworkRegressor`; counts is (networks, kinds).
    macs, blocks, measured_s
        MACs, number of blocks with work, and seconds, (networks,).
    end_to_end
        Whether whole networks were measured; else the publisher added the latencies of their blocks.
    """

    name: str
    kinds: BlockKinds
    counts: FloatArray
    macs: FloatArray
    blocks: FloatArray
    measured_s: FloatArray
    end_to_end: bool


def read_networks(folder: Path) -> list[Networks]:
    """Read both tables of `folder`, one entry per device and batch."""
    return [*_fbnet(folder / "networks_fbnet.parquet"), *_ofa(folder / "networks_ofa_v100.parquet")]


def _fbnet(path: Path) -> Iterable[Networks]:
    frame = pd.read_parquet(path)
    archs = sorted(set(frame["arch"]))
    geometries = _fbnet_geometries()
    layers = {geometry: number for number, geometry in enumerate(dict.fromkeys(geometries))}
    column = {(geometry, op): 9 * number + op for geometry, number in layers.items() for op in range(9)}
    launched = [fbnet_operators(op, *geometry) for geometry, op in column]
    # Stem and head are the same in all networks: they are in the offset.
    kinds = BlockKinds(
        np.array([_work(found) for found in launched]),
        np.array([layers[geometry] for geometry, _ in column]),
        np.array([_fbnet_choices(op) for _, op in column]),
    )
    counts = np.zeros((len(archs), len(column)))
    for row, arch in zip(counts, archs, strict=True):
        for geometry, digit in zip(geometries, arch, strict=True):
            row[column[geometry, int(digit)]] += 1
    macs = counts @ np.array([sum(operator.macs for operator in found) for found in launched])
    blocks = counts @ np.array([bool(found) for found in launched])
    for device, rows in frame.groupby("device"):
        measured_s = rows.set_index("arch")["latency_ms"].loc[archs].to_numpy() / 1e3
        end_to_end = bool(rows["runtime"].str.contains("PyTorch eager, end to end", regex=False).all())
        yield Networks(f"FBNet, {device}", kinds, counts, macs, blocks, measured_s, end_to_end)


def _fbnet_geometries() -> list[tuple[int, int, int, int]]:
    """List (in, out, stride, size of the input) of the 22 layers on 32x32 images."""
    found, c, size = [], 16, 32
    for out, first_stride, layers in FBNET_STAGES:
        for stride in (first_stride, *[1] * (layers - 1)):
            found.append((c, out, stride, size))
            c, size = out, -(-size // stride)
    return found


def fbnet_operators(op: int, c: int, out: int, stride: int, size: int) -> list[Operator]:
    """List the operators of a digit at a layer; grouped 1x1 convolutions have fewer MACs."""
    keeps = stride == 1 and c == out
    if op == SKIP:
        pixels = (-(-size // stride)) ** 2
        numbers = out * pixels
        conv = Operator("pointwise", c * numbers, c * out, c * pixels, numbers)
        return [] if keeps else [conv, *[Operator("norm", 0, 0, numbers, numbers)] * 2]
    k, expansion, groups = FBNET_OPS[op]
    return [
        replace(operator, macs=operator.macs // groups, parameters=operator.parameters // groups)
        if operator.kind == "pointwise"
        else operator
        for operator in MBConv(c, c * expansion, out, k, stride, size, shortcut=keeps).operators()
    ]


def _fbnet_choices(op: int) -> tuple[float, ...]:
    k, expansion, groups = (1, 1, 1) if op == SKIP else FBNET_OPS[op]
    return float(np.log(k)), float(np.log(expansion)), groups - 1.0, float(op == SKIP)


def _work(launched: list[Operator]) -> list[float]:
    """Sum MACs, bytes and launches of each class of operators, then bytes of parameters."""
    found = []
    for kinds in (("pointwise",), ("depthwise",), ("norm", "activation", "add")):
        ours = [operator for operator in launched if operator.kind in kinds]
        found += [sum(o.macs for o in ours), 4 * sum(o.read + o.written for o in ours), len(ours)]
    return [*found, 4 * sum(o.parameters for o in launched)]


def _ofa(path: Path) -> Iterable[Networks]:
    frame = pd.read_parquet(path)
    archs = sorted(set(frame["arch"]))
    parts = [ofa_network(json.loads(arch)) for arch in archs]
    blocks = list(dict.fromkeys(block for part in parts for block in part.blocks))
    counts, kinds = count_blocks(parts, blocks), block_kinds_of(blocks)
    macs = counts @ np.array([cost(block).macs for block in blocks])
    lengths = counts @ np.array([bool(operators(block)) for block in blocks])
    for batch, rows in frame.groupby("batch"):
        measured_s = rows.set_index("arch")["latency_ms"].loc[archs].to_numpy() / 1e3
        yield Networks(f"Once-for-All, V100, batch {batch}", kinds, counts, macs, lengths, measured_s, True)


def ofa_network(arch: dict[str, Any]) -> Part:
    """Build a Once-for-All MobileNetV3 (arXiv 1908.09791) from depths, kernels, expansions, resolution."""
    image = int(np.ravel(arch["r"])[0])
    c, size = 16, -(-image // 2)
    found = [
        Block(Candidate.parse("stem_hs"), Layer(3, c, 2, image, image, "stem")),
        Block(Candidate.parse("mbv3_k3_re_skip"), Layer(c, c, 1, size, size, hidden_channels=c)),
    ]
    for stage, (out, first_stride, activation, squeezes) in enumerate(OFA_STAGES):
        for index in range(4 * stage, 4 * stage + arch["d"][stage]):
            stride = first_stride if index == 4 * stage else 1
            keeps = stride == 1 and c == out
            name = f"mbv3_k{arch['ks'][index]}_{activation}" + "_se" * squeezes + "_skip" * keeps
            layer = Layer(c, out, stride, size, size, hidden_channels=c * arch["e"][index])
            found.append(Block(Candidate.parse(name), layer))
            c, size = out, -(-size // stride)
    found.append(Block(Candidate.parse("conv_hs"), Layer(c, 960, 1, size, size)))
    found.append(Block(Candidate.parse("classifier_hs"), Layer(960, 1000, 1, size, size, "head", 1280)))
    return Part(tuple(found))
