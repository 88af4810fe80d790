"""Splits that bind the relaxed derivation problem, by a linear program with cutting planes; see derive.py.

N layers, R candidates.
"""

import numpy as np
from scipy.optimize import linprog

from jmsnas.arrays import FloatArray
from jmsnas.nas.derivation.chain_bounds import split_times_s
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.split.placement import Placement


def lp_cuts(
    log_p_NR: FloatArray, lut: ChainLUT, low_s: float, behind_2P: FloatArray | None = None, rounds: int = 40
) -> tuple[list[Placement], list[float]]:
    """Find the splits, with weights, whose limit on T is active at the best mixture of candidates.

    Linear program over mixtures x of candidates: maximise sum x log p so that T under every split reaches
    `low_s`. Splits are added when the current mixture violates them; the weights are the dual prices. Both
    are empty when no constraint binds. `behind_2P`: scores and seconds of P choices that take the same time
    under every split (the branches of a mesh).
    """
    N, R = log_p_NR.shape
    rows, columns = np.nonzero(lut.mask_NR)
    behind_2P = np.zeros((2, 1)) if behind_2P is None else behind_2P
    P = behind_2P.shape[1]
    one_each = np.zeros((N + 1, len(rows) + P))
    one_each[rows, np.arange(len(rows))] = 1
    one_each[N, len(rows) :] = 1
    scores = np.concatenate([log_p_NR[rows, columns], behind_2P[0]])
    placements, limits, needed = list[Placement](), list[FloatArray](), list[float]()
    prices = np.zeros(0)
    for _ in range(rounds):
        solution = linprog(
            -scores,
            A_ub=-np.array(limits) if limits else None,
            b_ub=-np.array(needed) if needed else None,
            A_eq=one_each,
            b_eq=np.ones(N + 1),
        )
        if solution.status != 0:
            break  # infeasible: the splits so far prove that no mixture is that slow
        prices = -solution.ineqlin.marginals if limits else prices
        x_NR = np.zeros((N, R))
        x_NR[rows, columns] = solution.x[: len(rows)]
        latency_s, path = lut.best_path(np.einsum("nr,nrm->nm", x_NR, lut.U_NRM))
        if latency_s + float(solution.x[len(rows) :] @ behind_2P[1]) >= low_s * (1 - 1e-9):
            break
        tau_NR, moved_s = split_times_s(lut, path)
        placements.append(path)
        limits.append(np.concatenate([tau_NR[rows, columns], behind_2P[1]]))
        needed.append(low_s - float(moved_s.sum()))
    prices = np.concatenate([prices, np.zeros(len(placements) - len(prices))])
    if not prices.sum() > 0:
        return [], []
    return placements, (prices / prices.sum()).tolist()
