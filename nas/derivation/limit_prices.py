"""Prices of limits on memory and energy: dual values of a linear program, for limited_bounds.py.

The program mixes candidates and splits. X triples of layer, candidate and state: each as a column where the
device runs the layer before too (`stay`), and as one where it starts with this layer (`enter`). H moves of an
output from one state to another. N layers, R candidates, S states, Q limited resources.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.nas.derivation.budget_bounds import budget_bounds, priced_branches
from jmsnas.nas.derivation.chain_bounds import BranchScores
from jmsnas.nas.derivation.limited_bounds import LimitedBounds, Prices
from jmsnas.nas.derivation.limited_moves import LimitedMoves, limited_moves
from jmsnas.nas.latency.chain_lut import ChainLUT

# Columns for the time of the branches of a mesh.
_BRANCH_POINTS = 60
# The program, whose devices may mix candidates, prices time too low: multiples of its price.
_TIME_PRICES = (1.0, 1.5)


@dataclass(slots=True)
class _Rows:
    """Rows of a sparse matrix."""

    count: int = 0
    rows: list[IntArray] = field(default_factory=list)
    columns: list[IntArray] = field(default_factory=list)
    factors: list[FloatArray] = field(default_factory=list)

    def add(self, *blocks: tuple[IntArray, FloatArray | float]) -> None:
        """Add a row from blocks of columns with their factors."""
        for columns, factors in blocks:
            self.rows.append(np.full(len(columns), self.count))
            self.columns.append(columns)
            self.factors.append(np.broadcast_to(np.asarray(factors, dtype=np.float64), len(columns)))
        self.count += 1

    def matrix(self, columns: int) -> csr_array:
        """Make the matrix."""
        at = np.concatenate(self.rows), np.concatenate(self.columns)
        return csr_array((np.concatenate(self.factors), at), shape=(self.count, columns))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Columns of the program: `stay`, `enter`, moves, ends of the chain, and times of the branches.

    `hops_3H`: output, and state before and behind, of each move. `seconds_V` and `score_V` are per column.
    """

    layer_X: IntArray
    candidate_X: IntArray
    state_X: IntArray
    hops_3H: IntArray
    ends: IntArray
    first_hop: int
    first_end: int
    first_branch: int
    seconds_V: FloatArray
    score_V: FloatArray


def limited_bounds(
    log_p_NR: FloatArray, line: ChainLUT, low_s: float, high_s: float, branches: BranchScores, grid_cells: int
) -> LimitedBounds:
    """Compute the bounds without prices, by each limit alone, and by the prices of the relaxed problem."""
    moves = limited_moves(line)
    bounds = LimitedBounds(moves, log_p_NR, branches, low_s, high_s, grid_cells, [], [], [])
    Q, S = len(moves.use_QNRS), moves.U_NRS.shape[2]
    bounds.add(Prices(np.zeros((Q, S))))
    if bounds.root == -np.inf:
        return bounds
    groups = _states_of_devices(moves)
    single = [_one_price(Q, S, q, states) for q in range(Q) for states in groups if moves.binds(q, states[0])]
    bounds.feasibility = [*single, np.sum(single, axis=0)] if len(single) > 1 else single
    priced = _solve(_columns(log_p_NR, moves, high_s, branches, bounds.cell_s), moves, groups, low_s, high_s)
    if priced is None:
        bounds.add_feasibility()
        return bounds
    price_QS, price_per_s = priced
    if price_QS.any():
        bounds.add(Prices(price_QS))
    for q, factor in itertools.product(range(Q), _TIME_PRICES):
        price = factor * price_per_s
        behind = priced_branches(branches, price, bounds.cell_s)
        bounds.budgets.append(budget_bounds(moves, log_p_NR, behind, low_s, high_s, q, price))
    return bounds


def _states_of_devices(moves: LimitedMoves) -> list[list[int]]:
    """List the states of each device."""
    return [list(group) for group in dict.fromkeys(tuple(row.nonzero()[0].tolist()) for row in moves.same_SS)]


def _one_price(Q: int, S: int, q: int, states: list[int]) -> FloatArray:
    price_QS = np.zeros((Q, S))
    price_QS[q, states] = 1.0
    return price_QS


def _columns(
    log_p_NR: FloatArray, moves: LimitedMoves, high_s: float, branches: BranchScores, cell_s: float
) -> _Columns:
    N = len(moves.U_NRS)
    layer_X, candidate_X, state_X = np.nonzero(moves.free_NRS & (high_s >= moves.U_NRS))
    hops_3H = np.array(np.nonzero(np.isfinite(moves.moves_LSS[:N])))
    hops_3H = hops_3H[:, (hops_3H[0] > 0) | (hops_3H[1] == 0)]
    end_S = moves.moves_LSS[N].min(axis=1)
    ends = np.flatnonzero(np.isfinite(end_S))
    cells = np.flatnonzero(np.isfinite(branches.exact_K))
    cells = cells[:: max(1, len(cells) // _BRANCH_POINTS)]
    own_s = moves.U_NRS[layer_X, candidate_X, state_X]
    branch_s = cells * cell_s
    own_scores = log_p_NR[layer_X, candidate_X]
    none = np.zeros(hops_3H.shape[1] + len(ends))
    first_hop = 2 * len(layer_X)
    return _Columns(
        layer_X,
        candidate_X,
        state_X,
        hops_3H,
        ends,
        first_hop,
        first_hop + hops_3H.shape[1],
        first_hop + len(none),
        np.concatenate([own_s, own_s, moves.moves_LSS[tuple(hops_3H)], end_S[ends], branch_s]),
        np.concatenate([own_scores, own_scores, none, branches.exact_K[cells]]),
    )


def _solve(
    its: _Columns, moves: LimitedMoves, groups: list[list[int]], low_s: float, high_s: float
) -> tuple[FloatArray, float] | None:
    """Solve the program: price of each limit, (Q, S), and of a second; None where nothing is feasible."""
    V, (Q, _, _, S) = len(its.score_V), moves.use_QNRS.shape
    flow, right = _flow(its, moves)
    most = _Rows()
    every = np.arange(V)
    most.add((every, its.seconds_V / high_s))
    most.add((every, -its.seconds_V / high_s))
    for q in range(Q):
        for states in groups:
            most.add(*_use(its, moves, q, states))
    found = linprog(
        -its.score_V,
        A_ub=most.matrix(V),
        b_ub=[1.0, -low_s / high_s, *[0.0] * (Q * len(groups))],
        A_eq=flow.matrix(V),
        b_eq=right,
    )
    if found.status != 0:
        return None
    price_QS, duals = np.zeros((Q, S)), np.maximum(-found.ineqlin.marginals[2:], 0.0)
    for k, states in enumerate(groups):
        price_QS[:, states] = duals[k :: len(groups), None]
    over, under = found.ineqlin.marginals[:2]
    return price_QS, float(under - over) / high_s


def _flow(its: _Columns, moves: LimitedMoves) -> tuple[_Rows, list[float]]:
    """Rows by which a mixture of splits is a flow: what arrives at a state runs there, and moves on."""
    rows, (N, _, S) = _Rows(), moves.U_NRS.shape
    X, (output_H, before_H, behind_H) = len(its.layer_X), its.hops_3H
    same_H = moves.same_SS[before_H, behind_H] & (output_H > 0)
    for n in range(N):
        for s in range(S):
            own = np.flatnonzero((its.layer_X == n) & (its.state_X == s))
            into_H = (output_H == n) & (behind_H == s)
            rows.add((own, 1.0), (its.first_hop + np.flatnonzero(into_H & same_H), -1.0))
            rows.add((X + own, 1.0), (its.first_hop + np.flatnonzero(into_H & ~same_H), -1.0))
            onward = its.first_hop + np.flatnonzero((output_H == n + 1) & (before_H == s))
            if n + 1 == N:
                onward = its.first_end + np.flatnonzero(its.ends == s)
            rows.add((own, 1.0), (X + own, 1.0), (onward, -1.0))
    rows.add((its.first_hop + np.flatnonzero(output_H == 0), 1.0))
    rows.add((np.arange(its.first_branch, len(its.score_V)), 1.0))
    return rows, [*[0.0] * (rows.count - 2), 1.0, 1.0]


def _use(
    its: _Columns, moves: LimitedMoves, q: int, states: list[int]
) -> list[tuple[IntArray, FloatArray | float]]:
    """Columns of what a device uses of a resource, less its limit where the device runs a layer."""
    own = np.flatnonzero(np.isin(its.state_X, states))
    at = its.layer_X[own], its.candidate_X[own], its.state_X[own]
    use_X, peak_X = moves.use_QNRS[q][at], moves.peak_QNRS[q][at]
    output_H, before_H, behind_H = its.hops_3H
    leaves = np.flatnonzero((output_H > 0) & np.isin(before_H, states) & ~np.isin(behind_H, states))
    ends = np.flatnonzero(np.isin(its.ends, states))
    return [
        (own, use_X),
        (len(its.layer_X) + own, use_X + peak_X - 1.0),
        (its.first_hop + leaves, moves.sent_QLS[q, output_H[leaves], before_H[leaves]]),
        (its.first_end + ends, moves.sent_QLS[q, -1, its.ends[ends]]),
    ]
