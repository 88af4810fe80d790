import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError, InputError
from jmsnas.nas.inspection.explain import explain_split
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem_file import read_problem
from jmsnas.nas.split.serial import fan_out
from jmsnas.nas.split.serial.fan_out import assign_serially, sending_order

Array = NDArray[np.float64]
CASES = Path(__file__).parents[3] / "cases" / "split"


def brute_force(tail_BK: Array, send_K: Array) -> float:
    """Least end of the last branch over all children and all orders of sending, by simulation."""
    (B, K), best = tail_BK.shape, math.inf
    for children in itertools.permutations(range(K), B):
        for order in itertools.permutations(range(B)):
            clock, last = 0.0, 0.0
            for b in order:
                clock += send_K[children[b]]
                last = max(last, clock + tail_BK[b, children[b]])
            best = min(best, last)
    return best


def serially(
    tail_BK: Array, send_K: Array, time_limit_s: float = math.inf
) -> tuple[float, float, tuple[int, ...]]:
    return assign_serially(tail_BK, np.broadcast_to(send_K, tail_BK.shape), time_limit_s)


def instance(seed: int, B: int, K: int, kind: str) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    send_K, tail_BK = random.uniform(0, 2, K), random.uniform(0, 3, (B, K))
    if kind == "ties":
        send_K, tail_BK = np.round(send_K), np.round(tail_BK)
    elif kind == "forbidden":
        tail_BK[random.random((B, K)) < 0.35] = np.inf
    elif kind == "nothing sent":
        send_K[:] = 0.0
    elif kind == "far apart":
        send_K, tail_BK = send_K * 10.0 ** random.uniform(-6, 3), tail_BK * 10.0 ** random.uniform(-6, 3)
    elif kind == "slow children":  # a slow device is slow for every branch
        tail_BK = random.uniform(0.5, 3, (B, 1)) * random.uniform(0.5, 2, K)
    return tail_BK, send_K


KINDS = ["any", "ties", "forbidden", "nothing sent", "far apart", "slow children"]


@pytest.mark.parametrize("enumerated", [True, False])
@settings(max_examples=300)
@given(st.integers(0, 4), st.integers(0, 2), st.integers(0, 2**32), st.sampled_from(KINDS))
def test_no_children_and_no_order_are_faster(
    enumerated: bool, B: int, spare: int, seed: int, kind: str
) -> None:
    tail_BK, send_K = instance(seed, B, B + spare, kind)
    with pytest.MonkeyPatch.context() as patch:
        if not enumerated:
            patch.setattr(fan_out, "_MAX_ENUMERATED", 0)
        seconds, bound_s, children = serially(tail_BK, send_K)
    best = brute_force(tail_BK, send_K) if B else 0.0
    if math.isinf(best):
        assert seconds == math.inf and children == ()
        return
    accuracy = 1e-12 if enumerated else 1e-6
    assert seconds == pytest.approx(best, rel=accuracy, abs=1e-300)
    assert bound_s == pytest.approx(seconds, rel=1e-9, abs=1e-300)  # proven
    assert len(set(children)) == B
    # The assignment takes as long in the order of sending.
    clock, last = 0.0, 0.0
    for b in sending_order(tail_BK[range(B), list(children)]):
        clock += send_K[children[b]]
        last = max(last, clock + tail_BK[b, children[b]])
    assert last == pytest.approx(seconds, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("B", "K"), [(8, 8), (10, 20), (10, 30)])
def test_many_children_are_proven(B: int, K: int, kind: str) -> None:
    tail_BK, send_K = instance(B * K, B, K, kind)
    seconds, bound_s, children = serially(tail_BK, send_K)
    assert bound_s == pytest.approx(seconds, rel=1e-9) and len(set(children)) == B
    # No exchange of one child against any other is faster.
    for b, k in itertools.product(range(B), range(K)):
        other = [children[b] if one == k else one for one in children]
        other[b] = k
        tails, sends = tail_BK[range(B), other], send_K[other]
        order = list(sending_order(tails))
        assert (np.cumsum(sends[order]) + tails[order]).max() >= seconds * (1 - 1e-12)


def test_more_branches_than_children_have_no_assignment() -> None:
    assert serially(np.ones((3, 2)), np.ones(2)) == (math.inf, math.inf, ())


def test_without_time_an_assignment_is_given_with_its_bound() -> None:
    tail_BK, send_K = instance(1, 40, 60, "slow children")
    seconds, bound_s, children = serially(tail_BK, send_K, 0.0)
    assert len(set(children)) == 40 and 0 <= bound_s < seconds < math.inf
    later_s, later_bound_s, _ = serially(tail_BK, send_K, 1.0)
    assert bound_s <= later_bound_s <= later_s <= seconds


def test_requests_share_the_end_of_a_time_limit() -> None:
    problem, own = read_problem(CASES / "serial_10_branches_20_children.json")
    late = SplitRequest(own["input"], "relay", end_s=0.0)
    assert late.left_s == 0 and replace(late, policy="stop-early").left_s == 0
    found = split(problem, late)
    best = split(problem, replace(late, end_s=math.inf))
    assert found.bound is not None and best.bound is not None and best.proven and not found.proven
    assert found.bound <= best.bound * (1 + 1e-9) <= found.timeline.latency_s * (1 + 1e-9)
    explained = explain_split(problem, found, 1e-3)
    assert not explained.changes and len(explained.unfinished) == len(problem.links) + problem.M
    with pytest.raises(InfeasibleError, match="hermes was not done within --time-limit: expected a longer"):
        split(problem, replace(late, method="hermes"))
    with pytest.raises(InputError, match="got --time-limit -1: expected seconds, 0 or more"):
        SplitRequest(time_limit_s=-1)
