"""U(.) of every candidate of every layer on every device, as one array that is filled once.

N layers, R candidates, M devices, L = N + 1 outputs (output 0 is the raw input).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import NetworkError
from jmsnas.nas.placement import Placement, Term, chain_latency, chain_terms
from jmsnas.network import INPUT_BYTES, WIRE_BYTES, Network
from jmsnas.space import Block, SearchSpace


class Predictor(Protocol):
    """What speaks for a device: U(.)."""

    def predict_s(self, blocks: Sequence[Block]) -> NDArray[np.float64]:
        """Seconds of each block."""


@dataclass(frozen=True, slots=True)
class LatencyLUT:
    """Latencies of a space on a chain of devices.

    Attributes
    ----------
    U_NRM
        U_n^m(v_i) in seconds; 0 where layer n has no candidate i (see `mask_NR`).
    mask_NR
        True where layer n has a candidate i. Stem and head have one.
    epsilon_LM
        Seconds to send output n over the link behind device m; last column 0.
    moves_LMM
        Seconds to carry output n from device a to device b; infinite where the policy forbids it. Row 0
        starts at the first device, row N ends the chain.
    sent_LM
        Bytes behind `epsilon_LM`.
    """

    devices: tuple[str, ...]
    policy: str
    U_NRM: NDArray[np.float64]
    mask_NR: NDArray[np.bool_]
    epsilon_LM: NDArray[np.float64]
    moves_LMM: NDArray[np.float64]
    sent_LM: NDArray[np.float64]

    def tau_NM(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Seconds of each layer on each device when layer n is candidate `indices[n]`."""
        tau_NM: NDArray[np.float64] = self.U_NRM[np.arange(len(indices)), list(indices)]
        return tau_NM

    def latency_s(self, indices: Sequence[int], placement: Placement) -> float:
        """T of equation (1) of an architecture under a placement, seconds."""
        return chain_latency(self.tau_NM(indices), self.epsilon_LM, placement, self.policy == "stop-early")

    def terms(self, indices: Sequence[int], placement: Placement) -> tuple[Term, ...]:
        """Every term of equation (1), device by device."""
        stop_early = self.policy == "stop-early"
        tau_s, epsilon_s = chain_terms(self.tau_NM(indices), self.epsilon_LM, placement, stop_early)
        return tuple(
            Term(device, tuple(layers), tau, epsilon, float(self.sent_LM[cut, m]) if epsilon else 0.0)
            for m, (device, layers, tau, epsilon, cut) in enumerate(
                zip(self.devices, placement.layers, tau_s, epsilon_s, placement.cuts, strict=True)
            )
        )


def sent_bytes(space: SearchSpace, network: Network) -> NDArray[np.float64]:
    """Bytes of output n (row 0: the encoded raw input) on the link behind device m; (L, M), last column 0."""
    elements = np.array([layer.output_elements for layer in space.layers], dtype=np.float64)
    sent_LM = np.zeros((space.N + 1, network.M))
    for m, link in enumerate(network.links):
        sent_LM[0, m] = space.input_elements * INPUT_BYTES[network.input_encoding]
        sent_LM[1:, m] = elements * WIRE_BYTES[link.wire]
    return sent_LM


def moves(epsilon_LM: NDArray[np.float64], policy: str) -> NDArray[np.float64]:
    """Seconds to carry each output from device a to b, infinite where `policy` forbids it; (L, M, M)."""
    L, M = epsilon_LM.shape
    moves_LMM = np.full((L, M, M), np.inf)
    for a in range(M):
        for b in range(a, M):
            if policy != "strict" or b <= a + 1:
                moves_LMM[:, a, b] = epsilon_LM[:, a:b].sum(axis=1)
    if policy == "strict":  # the first device runs the first layer, the last device the last
        moves_LMM[0, 0, 1:] = np.inf
        moves_LMM[-1] = np.inf
        moves_LMM[-1, M - 1, M - 1] = 0.0
    elif policy == "stop-early":
        moves_LMM[-1] = np.where(np.eye(M, dtype=bool), 0.0, np.inf)
    else:
        moves_LMM[-1, :, : M - 1] = np.inf
    return moves_LMM


def build_lut(space: SearchSpace, network: Network, predictors: Mapping[str, Predictor]) -> LatencyLUT:
    """Fill the array once: every block of the space on every device of a chain. Raises NetworkError."""
    if network.tree:
        raise NetworkError(f"network {network.name} is a mesh: expected a chain of devices")
    if network.policy == "strict" and network.M > space.N:
        raise NetworkError(
            f"policy strict gives each of {network.M} devices a layer, space {space.name} has {space.N}: "
            'use fewer devices, or policy = "relay" in the network file'
        )
    U_NRM = np.zeros((space.N, space.R, network.M))
    mask_NR = np.zeros((space.N, space.R), dtype=bool)
    places = [(n, i) for n, choices in enumerate(space.choices) for i in range(len(choices))]
    blocks = [Block(space.choices[n][i], space.layers[n]) for n, i in places]
    rows, columns = (list(index) for index in zip(*places, strict=True))
    mask_NR[rows, columns] = True
    for m, device in enumerate(network.devices):
        U_NRM[rows, columns, m] = predictors[device.name].predict_s(blocks)
    sent_LM = sent_bytes(space, network)
    epsilon_LM = np.zeros_like(sent_LM)
    for m, link in enumerate(network.links):
        epsilon_LM[:, m] = [link.epsilon_s(size) for size in sent_LM[:, m]]
    names = tuple(device.name for device in network.devices)
    return LatencyLUT(
        names, network.policy, U_NRM, mask_NR, epsilon_LM, moves(epsilon_LM, network.policy), sent_LM
    )
