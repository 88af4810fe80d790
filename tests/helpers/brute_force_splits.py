"""Every split of small chains at once: what the solvers are held against."""

import functools
import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@functools.cache
def all_cuts(N: int, M: int) -> NDArray[np.intp]:
    """(splits, M): every 0 <= c_1 <= ... <= c_M = N."""
    inner = itertools.combinations_with_replacement(range(N + 1), M - 1)
    return np.array([(*cuts, N) for cuts in inner], dtype=np.intp)


def all_terms(
    tau_NM: Array, epsilon_LM: Array, policy: str, min_layers: int = 0, call_M: Array | None = None
) -> tuple[NDArray[np.intp], Array, Array]:
    """Cuts the policy allows, and tau_D^m (with the call) and eps^m of each; (splits, M)."""
    N, M = tau_NM.shape
    cuts_KM = all_cuts(N, M)
    starts_KM = np.hstack([np.zeros((len(cuts_KM), 1), dtype=np.intp), cuts_KM[:, :-1]])
    allowed = cuts_KM[:, 0] >= min_layers
    if policy == "strict":
        allowed &= (cuts_KM > starts_KM).all(axis=1)
    cuts_KM, starts_KM = cuts_KM[allowed], starts_KM[allowed]
    sums_LM = np.vstack([np.zeros((1, M)), np.cumsum(tau_NM, axis=0)])
    devices = np.arange(M)
    epsilon_KM = epsilon_LM[cuts_KM, devices]
    if policy == "stop-early":
        epsilon_KM[cuts_KM == N] = 0.0
    calls_KM = (cuts_KM > starts_KM) * (0.0 if call_M is None else call_M)
    return cuts_KM, sums_LM[cuts_KM, devices] - sums_LM[starts_KM, devices] + calls_KM, epsilon_KM


def random_chain(rng: np.random.Generator, N: int, M: int) -> tuple[Array, Array]:
    """tau_NM and epsilon_LM whose links are now cheap, now dear."""
    tau_NM = rng.uniform(0.1, 1, (N, M)) * rng.uniform(0.1, 1, M)
    epsilon_LM = 10.0 ** rng.uniform(-2, 1) * rng.uniform(0, 1, (N + 1, M))
    epsilon_LM[:, M - 1] = 0
    return tau_NM, epsilon_LM
