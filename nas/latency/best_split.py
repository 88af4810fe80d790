"""The best split of a fixed network over a chain, exactly, by dynamic programming.

State: layer n has just run on device m; `moves_LMM` (see build_lut.py) holds what the policy allows.
"""

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.placement import Placement, placement_from_devices


def best_split(tau_NM: NDArray[np.float64], moves_LMM: NDArray[np.float64]) -> tuple[float, Placement]:
    """Find the least T of equation (1) over all splits the policy allows, and a split that reaches it.

    Parameters
    ----------
    tau_NM
        Seconds of layer n on device m (a fixed network, or expected seconds).
    moves_LMM
        Seconds to carry output n from device a to device b; infinite where forbidden.

    Returns
    -------
    T in seconds, and the placement. Exact: O(N M^2).

    Raises
    ------
    TargetError
        When the policy allows no split at all.
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
