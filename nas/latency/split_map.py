"""Where a split pays: T of the best placement against cloud only, over input sizes and link rates.

No training: a fixed architecture at several resolutions, arithmetic on U(.) and equation (1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.architecture import Architecture
from jmsnas.errors import TopologyError
from jmsnas.nas.latency.build_lut import Predictor, build_lut
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.split.placement import Placement
from jmsnas.profiler.simulation.device_file import SimulatedDevice
from jmsnas.profiler.simulation.roofline import block_latency_s, load_simulated_device
from jmsnas.space import Block, Candidate, Layer, SearchSpace
from jmsnas.topology import Topology


@dataclass(frozen=True, slots=True)
class SplitMap:
    """T of cloud only and of the best placement under `policy`, for S input sizes and K link rates.

    Seconds, bits per second. `cuts_SKM` holds the best placement's cuts (c_1, ..., c_M).
    """

    sizes: tuple[int, ...]
    rates_bps: tuple[float, ...]
    input_encoding: str
    policy: str
    cloud_SK: NDArray[np.float64]
    best_SK: NDArray[np.float64]
    cuts_SKM: NDArray[np.int64]

    @property
    def layers_SKM(self) -> NDArray[np.int64]:
        """How many layers each device runs in the best placement."""
        return np.diff(self.cuts_SKM, axis=-1, prepend=0)


@dataclass(frozen=True, slots=True)
class RooflinePredictor:
    """U(.) of a SIMULATED device straight from its published figures, with no table and no fit."""

    device: SimulatedDevice
    runtime: str

    def predict_s(self, blocks: Sequence[Block]) -> NDArray[np.float64]:
        """Seconds of one call of each block, (blocks,)."""
        return np.array([block_latency_s(self.device, self.runtime, block) for block in blocks])


def simulated_predictors(topology: Topology) -> dict[str, Predictor]:
    """Give every device of a network its built-in roofline. Raises DeviceError for one that has none."""
    return {d.name: RooflinePredictor(load_simulated_device(d.table), d.runtime) for d in topology.devices}


def default_architecture(space: SearchSpace) -> Architecture:
    """Give a network with no search behind it: `mb_k3_e6`, with the shortcut where it can be.

    A layer that offers neither (stem, head, a fixed block) takes its first candidate.
    """
    wished = (Candidate(3, 6, shortcut=True), Candidate(3, 6))
    return Architecture(
        tuple(next((c for c in wished if c in choices), choices[0]) for choices in space.choices)
    )


def resize_space(space: SearchSpace, size: int) -> SearchSpace:
    """Give a space at another input resolution: the same layers over `size` x `size` images."""
    shape: tuple[int, ...] = (space.input_shape[0], size, size)
    layers: list[Layer] = []
    for layer in space.layers:
        layers.append(replace(layer, height=shape[1], width=shape[2]))
        shape = layers[-1].output_shape
    return replace(space, input_shape=(space.input_shape[0], size, size), layers=tuple(layers))


def with_link_rate(
    topology: Topology, capacity_bps: float, input_encoding: str, policy: str = "relay"
) -> Topology:
    """Give a network whose first link has another rate.

    Under the policy `relay` a device may only pass on, so cloud only is one of the plans. Raises
    NetworkError for a network without links.
    """
    if not topology.links:
        raise TopologyError(
            f"network {topology.name} has no link: expected two or more devices, to ask where a split pays"
        )
    first = replace(topology.links[0], capacity_bps=capacity_bps)
    links = (first, *topology.links[1:])
    return replace(topology, links=links, policy=policy, input_encoding=input_encoding)


def split_map(
    space: SearchSpace,
    architecture: Architecture,
    topology: Topology,
    predictors: Mapping[str, Predictor],
    sizes: Sequence[int],
    rates_bps: Sequence[float],
    input_encoding: str,
    policy: str = "relay",
) -> SplitMap:
    """Compute cloud only and the best placement of `architecture` at each input size and first-link rate.

    Parameters
    ----------
    predictors
        U(.) by the devices' names in the network.
    sizes
        Pixels a side of the (square) input.
    input_encoding
        What the raw image is on the wire: `uint8` or `float32`; it decides who wins.
    policy
        What the best placement may do: `relay`, or the paper's `strict`. Cloud only is the same in both.

    Raises
    ------
    SpaceError
        When the architecture is none of the space.
    NetworkError
        For a mesh, a network without links, an unknown encoding, a rate that is not above 0.
    """
    shape = (len(sizes), len(rates_bps))
    cloud_SK, best_SK = np.empty(shape), np.empty(shape)
    cuts_SKM = np.empty((*shape, topology.M), dtype=np.int64)
    everything_last = Placement((0,) * (topology.M - 1) + (space.N,))
    for s, size in enumerate(sizes):
        fixed = resize_space(_only(space, architecture), size)
        topologies = [with_link_rate(topology, rate_bps, input_encoding, policy) for rate_bps in rates_bps]
        for k, lut in enumerate(_luts(fixed, topologies, predictors)):
            cloud_SK[s, k] = lut.latency_s((0,) * space.N, everything_last)
            best_SK[s, k], placement = lut.best((0,) * space.N)
            cuts_SKM[s, k] = placement.cuts
    return SplitMap(tuple(sizes), tuple(rates_bps), input_encoding, policy, cloud_SK, best_SK, cuts_SKM)


def _only(space: SearchSpace, architecture: Architecture) -> SearchSpace:
    """Give the space in which each layer has no choice but the architecture's candidate."""
    architecture.indices(space)
    return replace(space, choices=tuple((candidate,) for candidate in architecture.candidates))


@dataclass(frozen=True, slots=True)
class _Asked:
    """U(.) that was asked once: a link's rate changes nothing in it."""

    seconds: dict[Block, float]

    def predict_s(self, blocks: Sequence[Block]) -> NDArray[np.float64]:
        """Seconds of each block."""
        return np.array([self.seconds[block] for block in blocks])


def _luts(
    space: SearchSpace, topologies: Sequence[Topology], predictors: Mapping[str, Predictor]
) -> list[ChainLUT]:
    """One array a network; U(.) is asked once."""
    if not topologies:
        return []
    blocks = space.blocks()
    asked = {
        device.name: _Asked(
            dict(zip(blocks, predictors[device.name].predict_s(blocks).tolist(), strict=True))
        )
        for device in topologies[0].devices
    }
    found = (build_lut(space, topology, asked) for topology in topologies)
    return [lut for lut in found if isinstance(lut, ChainLUT)]
