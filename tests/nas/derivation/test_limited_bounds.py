import itertools
import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_luts import limited_lut, random_p

from jmsnas.errors import InfeasibleError
from jmsnas.nas.derivation.budget_bounds import budget_bounds, priced_branches
from jmsnas.nas.derivation.chain_bounds import GRID_CELLS, BranchScores, fixed_split_bounds
from jmsnas.nas.derivation.limit_prices import limited_bounds
from jmsnas.nas.derivation.limited_bounds import LimitedBounds
from jmsnas.nas.derivation.split_excess import split_excess
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.split.placement import Placement

cases = st.tuples(
    st.integers(0, 2**32),
    st.sampled_from(["strict", "relay", "stop-early"]),
    st.floats(0.2, 0.9),
    st.sampled_from([(0,), (2,), (0, 1), (0, 1, 2)]),
    st.integers(0, 4),
    st.floats(0, 1),
)


Case = tuple[int, str, float, tuple[int, ...], int, float]


def drawn(
    case: Case,
) -> tuple[ChainLUT, np.ndarray, tuple[int, ...], list[tuple[float, float, tuple[int, ...]]], float]:
    """Return a LUT with limits, log p, first candidates, their completions, and a share of the range of T."""
    seed, policy, share, devices, length, where = case
    lut = limited_lut(seed, policy, share, devices)
    log_p_NR = np.log(np.where(lut.mask_NR, random_p(lut, 1.0, seed), 1.0))
    random = np.random.default_rng(seed)
    prefix = tuple(int(random.choice(np.flatnonzero(row))) for row in lut.mask_NR[: length + 1])
    return lut, log_p_NR, prefix, completions(lut, log_p_NR, prefix), where


def completions(
    lut: ChainLUT, log_p_NR: np.ndarray, prefix: tuple[int, ...]
) -> list[tuple[float, float, tuple[int, ...]]]:
    """Score of the layers after `prefix`, T and candidates of each network that the limits allow."""
    n, found = len(prefix), []
    for tail in itertools.product(*[np.flatnonzero(row).tolist() for row in lut.mask_NR[n:]]):
        with suppress(InfeasibleError):
            t_s = lut.best_split([*prefix, *tail])[0]
            score = log_p_NR[np.arange(n, len(lut.mask_NR)), list(tail)].sum()
            found.append((float(score), t_s, (*prefix, *tail)))
    return found


def labels_bound(bounds: LimitedBounds, prefix: tuple[int, ...]) -> float:
    """Bound after the last candidate of `prefix`, whose labels are made layer by layer."""
    reached = np.zeros((1, 1))
    for n, i in enumerate(prefix):
        labels = bounds.labels(prefix[:n], reached, np.array([i]))
        reached = labels.reached_RSB[0]
    return float(bounds.bound(prefix[:-1], labels, np.array([prefix[-1]]))[0])


@settings(max_examples=40, deadline=None)
@given(cases, st.floats(-30, 30))
def test_no_bound_by_a_limit_is_ever_too_low(case: Case, price: float) -> None:
    lut, log_p_NR, prefix, networks, where = drawn(case)
    t_s = [t for _, t, _ in networks] or [1.0]
    high_s = min(t_s) + where * (max(t_s) - min(t_s)) + 1e-9
    low_s = 0.97 * high_s
    best = max((score for score, t, _ in networks if low_s <= t <= high_s), default=-math.inf)
    bounds = limited_bounds(log_p_NR, lut, low_s, high_s, BranchScores(), GRID_CELLS)
    bounds.add_feasibility()
    assert labels_bound(bounds, prefix) >= best - 1e-9
    # Each resource alone, at any price of time and in coarse cells.
    behind = priced_branches(BranchScores(), price / high_s, bounds.cell_s)
    for q, cells in itertools.product(range(len(bounds.moves.use_QNRS)), (7, 2000)):
        its = budget_bounds(bounds.moves, log_p_NR, behind, low_s, high_s, q, price / high_s, cells)
        alone = replace(bounds, prices=[], tables=[], budgets=[its])
        assert labels_bound(alone, prefix) >= best - 1e-9


@settings(max_examples=40, deadline=None)
@given(cases)
def test_no_bound_of_a_split_is_ever_too_low_where_limits_may_forbid_it(case: Case) -> None:
    lut, log_p_NR, prefix, networks, where = drawn(case)
    slow_s = where * max((t for _, t, _ in networks), default=1.0)
    best = max((score for score, t, _ in networks if t >= slow_s), default=-math.inf)
    first, second = (lut.best_path(lut.tau_NM([0, i, i, i, 0]))[1] for i in (0, 1))
    n, last = len(prefix), np.array([prefix[-1]])
    for placements, weights in (([first], [1.0]), ([first, second], [0.4, 0.6])):
        splits = fixed_split_bounds(log_p_NR, lut, placements, weights, slow_s, 2 * slow_s + 1e-9)
        excess = split_excess(log_p_NR, lut, placements, 0.0)
        both = splits.joined(splits)
        over_CR = excess.joined(excess, 1).bound(prefix[:-1], last, 2)
        assert both.bound(n, both.passed(prefix)[:, None], over_CR)[0] >= best - 1e-9


def test_a_bound_by_the_largest_activation_is_exact() -> None:
    # One device of 13 bytes: the largest activation has 6, and the two likelier candidates have weights of 4
    # bytes, the others of 1: only one of the two is within the limit. Activations that count only for the
    # first layer of a device, or not at all, would allow both.
    lut = limited_lut(2, "strict", 1.0, (0,), (4, 2, 1))
    (memory,) = lut.resources
    weights_NR = np.array([[1.0, 1.0], [1.0, 4.0], [1.0, 4.0], [1.0, 1.0]])
    peak_NR = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [6.0, 6.0]])
    lut = replace(
        lut,
        mask_NR=np.array([[True, False], [True, True], [True, True], [True, False]]),
        resources=(
            replace(memory, use_NRM=weights_NR[:, :, None], peak_NR=peak_NR, limit_M=np.array([13.0])),
        ),
    )
    log_p_NR = np.log([[1.0, 1.0], [0.1, 0.9], [0.2, 0.8], [1.0, 1.0]])
    bounds = limited_bounds(log_p_NR, lut, 0.0, 100.0, BranchScores(), GRID_CELLS)
    # 1 + 4 + 1 + 1 + 6 = 13 bytes; the less likely candidate of layer 3 costs least.
    assert bounds.budgets[0].root == pytest.approx(np.log(0.9 * 0.2))


def test_a_split_that_no_network_exceeds_has_no_excess() -> None:
    lut = limited_lut(2, "strict", 1.0, (0,), (4, 3, 2))
    (memory,) = lut.resources
    log_p_NR = np.log(np.where(lut.mask_NR, random_p(lut, 1.0, 2), 1.0))
    free = replace(lut, resources=(replace(memory, limit_M=np.full(2, 1e9)),))
    assert len(split_excess(log_p_NR, free, [Placement((2, 4))], 0.0).split_V) == 0
    tight = replace(lut, resources=(replace(memory, limit_M=np.array([1e-3, np.inf])),))
    (its,) = split_excess(log_p_NR, tight, [Placement((2, 4))], 0.0).split_V
    assert its == 0
