"""T of the best placement and of cloud only for a fixed architecture, over input sizes and link rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.architecture import Architecture
from jmsnas.arrays import FloatArray
from jmsnas.errors import TopologyError
from jmsnas.nas.latency.build_lut import Predictor, build_lut
from jmsnas.nas.split.placement import Placement
from jmsnas.profiler.simulation.device_file import SimulatedDevice
from jmsnas.profiler.simulation.roofline import block_latency_s, load_simulated_device
from jmsnas.space import Block, Candidate, Layer, SearchSpace
from jmsnas.topology import Topology


@dataclass(frozen=True, slots=True)
class SplitMap:
    """T of cloud only and of the best placement under `policy`, for S input sizes and K link rates.

    Seconds, bits per second. `cuts_SKM` are the cuts (c_1, ..., c_M) of the best placement.
    """

    sizes: tuple[int, ...]
    rates_bps: tuple[float, ...]
    input_encoding: str
    policy: str
    cloud_SK: FloatArray
    best_SK: FloatArray
    cuts_SKM: NDArray[np.int64]

    @property
    def layers_SKM(self) -> NDArray[np.int64]:
        """Number of layers of each device in the best placement."""
        return np.diff(self.cuts_SKM, axis=-1, prepend=0)


@dataclass(frozen=True, slots=True)
class RooflinePredictor:
    """U(.) of a SIMULATED device: the roofline of its published figures, without a fit."""

    device: SimulatedDevice
    runtime: str

    def predict_s(self, blocks: Sequence[Block]) -> FloatArray:
        """Compute the latency of one call of each block in seconds, (blocks,)."""
        return np.array([block_latency_s(self.device, self.runtime, block) for block in blocks])


def simulated_predictors(topology: Topology) -> dict[str, Predictor]:
    """Make the built-in roofline of every device. Raises DeviceError for a device without one."""
    return {d.name: RooflinePredictor(load_simulated_device(d.table), d.runtime) for d in topology.devices}


def default_architecture(space: SearchSpace) -> Architecture:
    """Make the architecture of `mb_k3_e6` in every layer, with the shortcut where the layer allows it.

    A layer that has neither (stem, head, a fixed block) takes its first candidate.
    """
    preferred = (Candidate(3, 6, shortcut=True), Candidate(3, 6))
    return Architecture(
        tuple(next((c for c in preferred if c in choices), choices[0]) for choices in space.choices)
    )


def resize_space(space: SearchSpace, size: int) -> SearchSpace:
    """Change the input resolution of a space to `size` x `size` pixels."""
    shape: tuple[int, ...] = (space.input_shape[0], size, size)
    layers: list[Layer] = []
    for layer in space.layers:
        layers.append(replace(layer, height=shape[1], width=shape[2]))
        shape = layers[-1].output_shape
    return replace(space, input_shape=(space.input_shape[0], size, size), layers=tuple(layers))


def split_map(
    space: SearchSpace,
    architecture: Architecture,
    topology: Topology,
    predictors: Mapping[str, Predictor],
    sizes: Sequence[int],
    rates_bps: Sequence[float],
) -> SplitMap:
    """Compute cloud only and the best placement of `architecture` at each input size and first-link rate.

    `predictors`: U(.) by the devices' names; `sizes`: pixels a side of the (square) input. Cloud only is one
    of the placements under the policy `relay`, and is the same under the paper's `strict`. Raises SpaceError
    for an architecture of another space, TopologyError for a mesh, no links, or a rate that is not above 0.
    """
    if not topology.links:
        raise TopologyError(f"topology {topology.name} has no link: expected two or more devices")
    first, *others = topology.links
    links = [(replace(first, capacity_bps=rate_bps, measured=None), *others) for rate_bps in rates_bps]
    shape = (len(sizes), len(rates_bps))
    cloud_SK, best_SK = np.empty(shape), np.empty(shape)
    cuts_SKM = np.empty((*shape, topology.M), dtype=np.int64)
    everything_last = Placement((0,) * (topology.M - 1) + (space.N,))
    for s, size in enumerate(sizes):
        fixed = resize_space(_restrict(space, architecture), size)
        blocks = fixed.blocks()
        cached = {
            name: _CachedPredictor(dict(zip(blocks, predictor.predict_s(blocks).tolist(), strict=True)))
            for name, predictor in predictors.items()
        }
        for k, of_rate in enumerate(links):
            lut = build_lut(fixed, replace(topology, links=of_rate), cached).main_path
            cloud_SK[s, k] = lut.latency_s((0,) * space.N, everything_last)
            best_SK[s, k], placement = lut.best_split((0,) * space.N)
            cuts_SKM[s, k] = placement.cuts
    return SplitMap(
        tuple(sizes), tuple(rates_bps), topology.input_encoding, topology.policy, cloud_SK, best_SK, cuts_SKM
    )


def _restrict(space: SearchSpace, architecture: Architecture) -> SearchSpace:
    """Restrict each layer of a space to the architecture's candidate."""
    architecture.indices(space)
    return replace(space, choices=tuple((candidate,) for candidate in architecture.candidates))


@dataclass(frozen=True, slots=True)
class _CachedPredictor:
    """Predictions of U(.), which do not depend on the rate of a link."""

    seconds: dict[Block, float]

    def predict_s(self, blocks: Sequence[Block]) -> FloatArray:
        """Look up the latency of each block in seconds."""
        return np.array([self.seconds[block] for block in blocks])
