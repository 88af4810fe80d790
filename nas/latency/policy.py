"""Which splits a network allows, as seconds of every move between devices: what the layer-by-layer DP walks.

A device that must run a layers or may run b at most is several states, one a count of layers it has run: so
limits on counts are moves that are allowed or not, and every exact method over moves holds under them.
L = N + 1 outputs (output 0 is the raw input), M devices, S states.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmsnas.nas.split.solve_chain import DeviceLimits, policy_limits


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Device m having run `count` layers; `stays` where a further layer leaves it in this state."""

    device: int
    count: int
    stays: bool


@dataclass(frozen=True, slots=True)
class AllowedMoves:
    """Which device may follow which. Rows and columns are states, in the order of devices and counts.

    `start_S`: seconds until the raw input is at the first layer's state; `between_LSS`: to carry output n
    from one state to another; `end_S`: from the last layer's state to where the result belongs. Infinite
    where forbidden.
    """

    states: tuple[DeviceState, ...]
    start_S: NDArray[np.float64]
    between_LSS: NDArray[np.float64]
    end_S: NDArray[np.float64]


def device_states(limits: DeviceLimits, least_M: NDArray[np.int64], N: int) -> tuple[DeviceState, ...]:
    """Give the states of each device: one where only emptiness is limited, else one a count of layers."""
    found = []
    for m, (least, most) in enumerate(zip(least_M.tolist(), limits.max_layers_M.tolist(), strict=True)):
        last = most if most < N else max(least, 1)
        found += [DeviceState(m, k, k == last and most >= N) for k in range(1, max(last, 1) + 1)]
    return tuple(found)


def allowed_moves(
    epsilon_LM: NDArray[np.float64],
    policy: str,
    limits: DeviceLimits | None = None,
    return_M: NDArray[np.float64] | None = None,
) -> AllowedMoves:
    """Say what policy and limits allow on a chain, and what each move takes.

    Parameters
    ----------
    epsilon_LM
        Seconds to send output n over the link behind device m; last column 0.
    policy
        `strict`, `relay` or `stop-early`.
    limits
        Layers a device at least and at most (budgets are not looked at); None for the policy alone.
    return_M
        Seconds to bring the result back from device m.
    """
    L, M = epsilon_LM.shape
    limits = limits or policy_limits(policy, L - 1, M)
    least_M = np.maximum(limits.min_layers_M, 1 if policy == "strict" else 0)
    back_M = np.zeros(M) if return_M is None else return_M
    states = device_states(limits, least_M, L - 1)
    enters = [state.count == 1 and limits.max_layers_M[state.device] > 0 for state in states]
    leaves = [state.count >= least_M[state.device] for state in states]
    start_S, end_S = np.full(len(states), np.inf), np.full(len(states), np.inf)
    between_LSS = np.full((L, len(states), len(states)), np.inf)
    for a, one in enumerate(states):
        m = one.device
        if enters[a] and not least_M[:m].any():
            start_S[a] = epsilon_LM[0, :m].sum()
        if leaves[a] and not least_M[m + 1 :].any():
            end_S[a] = back_M[m] if policy == "stop-early" else epsilon_LM[-1, m:].sum() + back_M[-1]
        if one.stays:
            between_LSS[:, a, a] = 0.0
        for b, other in enumerate(states[a + 1 :], a + 1):
            if other.device == m and other.count == one.count + 1:
                between_LSS[:, a, b] = 0.0
            elif other.device > m and enters[b] and leaves[a] and not least_M[m + 1 : other.device].any():
                between_LSS[:, a, b] = epsilon_LM[:, m : other.device].sum(axis=1)
    return AllowedMoves(states, start_S, between_LSS, end_S)


def concatenate_moves(parts: tuple[AllowedMoves, ...]) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Put chains one behind the other: each ends where it must before the next begins.

    Returns
    -------
    The device of each state (counted through all parts), and `moves_LSS`: row 0 starts at state 0, row n
    carries output n, row N ends the last part (on its diagonal).
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


def move_latencies_s(epsilon_LM: NDArray[np.float64], policy: str) -> NDArray[np.float64]:
    """Seconds to carry each output from device a to b, infinite where `policy` forbids it; (L, M, M)."""
    return concatenate_moves((allowed_moves(epsilon_LM, policy),))[1]
