import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmsnas.errors import InfeasibleError
from jmsnas.latency import Branch, completion_latency
from jmsnas.nas.split.solve_mesh import arrivals_s, assign_branches, bottleneck_assignment


@settings(max_examples=1000)
@given(
    st.integers(0, 4),
    st.integers(1, 5),
    st.sampled_from(["broadcast", "serial"]),
    st.integers(0, 2**32),
    st.floats(0, 0.5),
)
def test_brute_force_agrees(B: int, K: int, fan_out: str, seed: int, forbidden: float) -> None:
    random = np.random.default_rng(seed)
    tau_BK = np.where(random.random((B, K)) < forbidden, np.inf, random.uniform(0, 3, (B, K)))
    root_K, behind_K = random.uniform(0, 2, (2, K))
    best = np.inf
    for chosen in itertools.permutations(range(K), B):
        for order in itertools.permutations(range(B)):
            branches = [Branch(root_K[chosen[b]], tau_BK[b, chosen[b]], behind_K[chosen[b]]) for b in order]
            best = min(best, completion_latency([], [], 0.0, branches, fan_out))
    if np.isinf(best):
        with pytest.raises(InfeasibleError, match=f"give each of {B} branches one of {K} children"):
            assign_branches(tau_BK, root_K, behind_K, fan_out)
        return
    found = assign_branches(tau_BK, root_K, behind_K, fan_out)
    assert found.latency_s == found.bound_s == pytest.approx(best, rel=1e-9)
    chosen, order = list(found.children), found.order
    assert len(set(chosen)) == B and np.isfinite(tau_BK[range(B), chosen]).all()
    ends_B = arrivals_s(root_K, chosen, order, fan_out) + (tau_BK + behind_K)[range(B), chosen]
    assert ends_B.max(initial=0.0) == pytest.approx(best, rel=1e-9)


@settings(max_examples=200)
@given(st.integers(1, 3), st.integers(1, 4), st.sampled_from(["broadcast", "serial"]), st.integers(0, 2**32))
def test_required_children_have_a_branch(B: int, K: int, fan_out: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    tau_BK, required_K = random.uniform(0, 3, (B, K)), random.random(K) < 0.4
    (root_K, behind_K), best = random.uniform(0, 2, (2, K)), np.inf
    for chosen in itertools.permutations(range(K), B):
        for order in itertools.permutations(range(B)):
            if set(np.flatnonzero(required_K)) <= set(chosen):
                arrived_B = arrivals_s(root_K, chosen, order, fan_out)
                ends_B = arrived_B + (tau_BK + behind_K)[range(B), list(chosen)]
                best = min(best, ends_B.max())
    if np.isinf(best):
        with pytest.raises(InfeasibleError, match=f"no way to give each of {B} branches"):
            assign_branches(tau_BK, root_K, behind_K, fan_out, required_K=required_K)
        return
    found = assign_branches(tau_BK, root_K, behind_K, fan_out, required_K=required_K)
    assert found.latency_s == pytest.approx(best, rel=1e-9) and len(found.children) == B
    assert set(np.flatnonzero(required_K)) <= set(found.children)


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(0, 2**32), st.floats(0, 0.8))
def test_more_ways_than_are_looked_at_one_by_one(B: int, seed: int, forbidden: float) -> None:
    random = np.random.default_rng(seed)
    cost_BK = np.where(random.random((B, 6)) < forbidden, np.inf, random.uniform(0, 3, (B, 6)))
    best = min(cost_BK[range(B), chosen].max() for chosen in itertools.permutations(range(6), B))
    if np.isinf(best):
        with pytest.raises(InfeasibleError, match=f"give each of {B} branches one of 6 children"):
            bottleneck_assignment(cost_BK)
        return
    greatest, chosen = bottleneck_assignment(cost_BK)
    assert greatest == best == cost_BK[range(B), chosen].max() and len(set(chosen)) == B


def test_the_worked_mesh() -> None:
    # Fig. 2(b), in ms: branches of 2.5, 3.813 and 2.96 ms, sent to on a link of 8.02816 ms.
    tau_BK = np.full((3, 3), np.inf)
    np.fill_diagonal(tau_BK, [2.5, 3.813, 2.96])
    root_K, behind_K = np.full(3, 8.02816), np.array([0.25088, 0.37632, 0.50176])
    found = assign_branches(tau_BK, root_K, behind_K)
    assert found.children == (0, 1, 2) and found.latency_s + 179.17792 + 2.62 == pytest.approx(
        194.0154, abs=1e-6
    )
    # Serially the branches of 4.18932, 3.46176 and 2.75088 ms after arrival are sent to in this order.
    serial = assign_branches(tau_BK, root_K, behind_K, "serial")
    assert serial.order == (1, 2, 0)
    assert serial.latency_s + 179.17792 + 2.62 == pytest.approx(3 * 8.02816 + 2.75088 + 181.79792, abs=1e-6)


def test_eight_branches_swap_to_the_best_children() -> None:
    cost = np.add.outer(np.arange(8.0), np.arange(8.0))
    # Slow branches go to quick children: 0 + 7, 1 + 6, ... = 7 each.
    assert bottleneck_assignment(cost) == (7.0, tuple(range(7, -1, -1)))
