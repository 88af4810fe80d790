"""Splits that policy and limits allow, as latencies of moves between devices; dynamic programming over them.

A device with a minimum or maximum number of layers is several states, one per number of layers it has run:
limits on counts are then moves that are allowed or not, and every method over moves respects them.
L = N + 1 outputs (output 0 is the raw input), M devices, S states.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.arrays import FloatArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.placement import Placement, placement_from_devices
from jmsnas.nas.split.solve_chain import DeviceLimits


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Device m after `count` of its layers; `stays`: running a further layer does not change the state."""

    device: int
    count: int
    stays: bool


@dataclass(frozen=True, slots=True)
class AllowedMoves:
    """Latency in seconds of every allowed move between states; infinite where forbidden.

    `start_S`: until the raw input reaches the state of the first layer; `between_LSS`: output n from one
    state to another; `end_S`: from the state of the last layer to where the result is needed.
    """

    states: tuple[DeviceState, ...]
    start_S: FloatArray
    between_LSS: FloatArray
    end_S: FloatArray


def device_states(limits: DeviceLimits, least_M: NDArray[np.int64], N: int) -> tuple[DeviceState, ...]:
    """Make the states of each device: one where only an empty device is restricted, else one per count."""
    found = []
    for m, (least, most) in enumerate(zip(least_M.tolist(), limits.max_layers_M.tolist(), strict=True)):
        last = most if most < N else max(least, 1)
        found += [DeviceState(m, k, k == last and most >= N) for k in range(1, max(last, 1) + 1)]
    return tuple(found)


def allowed_moves(
    epsilon_LM: FloatArray,
    policy: str,
    limits: DeviceLimits,
    return_M: FloatArray | None = None,
    call_M: FloatArray | None = None,
) -> AllowedMoves:
    """Compute the latency of every move that policy and limits allow on a chain.

    `epsilon_LM`: seconds to send output n over the link behind device m; last column 0. `policy`: `strict`,
    `relay` or `stop-early`. `limits`: number of layers per device (budgets are ignored). `return_M`:
    seconds to return the result from device m. `call_M`: seconds to call device m, which a move to its first
    layer takes in addition.
    """
    L, M = epsilon_LM.shape
    least_M = np.maximum(limits.min_layers_M, 1 if policy == "strict" else 0)
    back_M = np.zeros(M) if return_M is None else return_M
    call_M = np.zeros(M) if call_M is None else call_M
    states = device_states(limits, least_M, L - 1)
    enters = [state.count == 1 and limits.max_layers_M[state.device] > 0 for state in states]
    leaves = [state.count >= least_M[state.device] for state in states]
    start_S, end_S = np.full(len(states), np.inf), np.full(len(states), np.inf)
    between_LSS = np.full((L, len(states), len(states)), np.inf)
    for a, one in enumerate(states):
        m = one.device
        if enters[a] and not least_M[:m].any():
            start_S[a] = epsilon_LM[0, :m].sum() + call_M[m]
        if leaves[a] and not least_M[m + 1 :].any():
            end_S[a] = back_M[m] if policy == "stop-early" else epsilon_LM[-1, m:].sum() + back_M[-1]
        if one.stays:
            between_LSS[:, a, a] = 0.0
        for b, other in enumerate(states[a + 1 :], a + 1):
            if other.device == m and other.count == one.count + 1:
                between_LSS[:, a, b] = 0.0
            elif other.device > m and enters[b] and leaves[a] and not least_M[m + 1 : other.device].any():
                between_LSS[:, a, b] = epsilon_LM[:, m : other.device].sum(axis=1) + call_M[other.device]
    return AllowedMoves(states, start_S, between_LSS, end_S)


def concatenate_moves(parts: tuple[AllowedMoves, ...]) -> tuple[tuple[int, ...], FloatArray]:
    """Concatenate the moves of chains; each chain ends on its last device before the next one starts.

    Returns
    -------
    The device of each state (numbered through all parts), and `moves_LSS`: row 0 starts at state 0, row n
    moves output n, row N ends the last part (on its diagonal).
    """
    S = sum(len(part.states) for part in parts)
    L = sum(part.between_LSS.shape[0] - 1 for part in parts) + 1
    moves_LSS = np.full((L, S, S), np.inf)
    devices: list[int] = []
    row, at = 0, 0
    ends_S = np.zeros(1)
    for part in parts:
        own = slice(at, at + len(part.states))
        before = slice(at - len(ends_S), at) if at else slice(0, 1)
        moves_LSS[row, before, own] = ends_S[:, None] + part.start_S
        inner = part.between_LSS.shape[0] - 1
        moves_LSS[row + 1 : row + inner, own, own] = part.between_LSS[1:inner]
        first = devices[-1] + 1 if devices else 0
        devices += [first + state.device for state in part.states]
        row, at, ends_S = row + inner, own.stop, part.end_S
    last = np.arange(S - len(ends_S), S)
    moves_LSS[-1, last, last] = ends_S
    return tuple(devices), moves_LSS


def best_split(tau_NM: FloatArray, moves_LMM: FloatArray) -> tuple[float, Placement]:
    """Find the split of least T of equation (1) by dynamic programming, exactly, in O(N M^2).

    State of the recursion: layer n has just run on device m.

    `tau_NM`: seconds of layer n on device m (of one architecture, or expected). Returns T in seconds and the
    placement. Raises InfeasibleError when the policy allows no split at all.
    """
    N, M = tau_NM.shape
    best_M = moves_LMM[0, 0] + tau_NM[0]
    came_from = np.zeros((N, M), dtype=np.intp)
    columns = np.arange(M)
    for n in range(1, N):
        reached_MM = best_M[:, None] + moves_LMM[n]
        came_from[n] = reached_MM.argmin(axis=0)
        best_M = reached_MM[came_from[n], columns] + tau_NM[n]
    ends_M = best_M + moves_LMM[N].min(axis=1)
    device = int(ends_M.argmin())
    latency_s = float(ends_M[device])
    if not np.isfinite(latency_s):
        raise InfeasibleError(f"no split of {N} layers over {M} devices is allowed by the policy")
    devices = [device]
    for n in range(N - 1, 0, -1):
        device = int(came_from[n, device])
        devices.append(device)
    return latency_s, placement_from_devices(tuple(reversed(devices)), M)


def remaining_latency_s(tau_NS: FloatArray, moves_LSS: FloatArray) -> FloatArray:
    """Compute the least remaining latency over splits after n layers, the last on state s; (L, S) seconds."""
    remaining_LS = np.empty((len(moves_LSS), moves_LSS.shape[1]))
    remaining_LS[-1] = moves_LSS[-1].min(axis=1)
    for n in range(len(tau_NS) - 1, -1, -1):
        remaining_LS[n] = (moves_LSS[n] + (tau_NS[n] + remaining_LS[n + 1])[None, :]).min(axis=1)
    return remaining_LS
