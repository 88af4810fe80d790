"""The splits that keep the best network from being too fast, by a linear programme: see derive.py.

N layers, R candidates.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from jmsnas.nas.derivation.chain_bounds import split_times_s
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.split.placement import Placement


def lp_cuts(
    log_p_NR: NDArray[np.float64],
    lut: ChainLUT,
    low_s: float,
    behind_2P: NDArray[np.float64] | None = None,
    rounds: int = 40,
) -> tuple[list[Placement], list[float]]:
    """Find the splits, and their weights, that keep the best network from being too fast.

    Linear programme over mixtures x of candidates: max sum x log p such that T under every split reaches
    `low_s`; splits are added as the relaxed network breaks them, the weights are the constraints' prices.
    Both empty when nothing binds. `behind_2P`: scores and seconds of what else can be chosen, one of P, that
    takes the same time under every split (the branches of a mesh).
    """
    N, R = log_p_NR.shape
    rows, columns = np.nonzero(lut.mask_NR)
    behind_2P = np.zeros((2, 1)) if behind_2P is None else behind_2P
    P = behind_2P.shape[1]
    one_each = np.zeros((N + 1, len(rows) + P))
    one_each[rows, np.arange(len(rows))] = 1
    one_each[N, len(rows) :] = 1
    scores = np.concatenate([log_p_NR[rows, columns], behind_2P[0]])
    placements: list[Placement] = []
    limits: list[NDArray[np.float64]] = []
    needed: list[float] = []
    prices = np.zeros(0)
    for _ in range(rounds):
        found = linprog(
            -scores,
            A_ub=-np.array(limits) if limits else None,
            b_ub=-np.array(needed) if needed else None,
            A_eq=one_each,
            b_eq=np.ones(N + 1),
        )
        if found.status != 0:
            break  # no mixture is that slow: any split that was broken proves it
        prices = -found.ineqlin.marginals if limits else prices
        x_NR = np.zeros((N, R))
        x_NR[rows, columns] = found.x[: len(rows)]
        latency_s, path = lut.best_path(np.einsum("nr,nrm->nm", x_NR, lut.U_NRM))
        if latency_s + float(found.x[len(rows) :] @ behind_2P[1]) >= low_s * (1 - 1e-9):
            break
        tau_NR, moved_s = split_times_s(lut, path)
        placements.append(path)
        limits.append(np.concatenate([tau_NR[rows, columns], behind_2P[1]]))
        needed.append(low_s - float(moved_s.sum()))
    prices = np.concatenate([prices, np.zeros(len(placements) - len(prices))])
    if not prices.sum() > 0:
        return [], []
    return placements, (prices / prices.sum()).tolist()
