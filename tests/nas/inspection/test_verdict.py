import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_problems import mesh_problem, random_problem, worked_problem

from jmsnas.nas.inspection.explain import explain_split
from jmsnas.nas.inspection.verdict import Alternative, list_alternatives, rank
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem import SplitProblem, with_link_rate
from jmsnas.nas.split.timeline import compute_timeline
from jmsnas.topology import POLICIES

DIAMOND = ((0,), (1,), (1,), (2, 3))
NAMES = {"device only", "cloud only", *POLICIES}


def random_case(seed: int, shape: str) -> SplitProblem:
    rng = np.random.default_rng(seed)
    inputs = DIAMOND if shape == "branches" else tuple((n,) for n in range(4))
    problem = mesh_problem(rng, "serial") if shape == "mesh" else random_problem(rng, inputs, 3)
    if shape == "return":
        problem = replace(problem, returns=True)
    if shape == "memory":
        sizes = rng.uniform(0, 3, 3)
        limited = [replace(d, memory_bytes=float(s)) for d, s in zip(problem.devices, sizes, strict=True)]
        problem = replace(problem, weight_bytes_N=np.ones(4), devices=tuple(limited))
    if shape == "equal":  # many ties
        problem = replace(problem, tau_NM=np.ones((4, 3)), output_bytes_N=np.zeros(4))
    return replace(problem, input_bytes={"uint8": 0.25, "float32": 1.0, "jpeg": float(rng.uniform(0, 0.2))})


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(["chain", "branches", "mesh", "return", "memory", "equal"]),
    st.integers(0, 1),
)
def test_the_fastest_is_the_minimum_of_all_listed(seed: int, shape: str, min_layers: int) -> None:
    problem = random_case(seed, shape)
    request = SplitRequest("uint8", "relay", min_layers=min_layers)
    found = list_alternatives(problem, request)
    assert [(k.encoding, k.name) for k in found] == [
        (e, n) for e in problem.input_bytes for n in ("device only", "cloud only", *POLICIES)
    ]
    for k in found:
        assert (k.latency_s is None) == bool(k.reason) == (not k.devices)
        assert k.is_split == (len(set(k.devices)) >= 2)
    for ranking, listed in ((rank(found), found), *((rank(own), own) for own in by_input(found))):
        times = sorted(k.latency_s for k in listed if k.latency_s is not None)
        assert len(ranking.fastest) + len(ranking.others) == len(times)
        for k in ranking.fastest:
            assert k.latency_s == pytest.approx(times[0], rel=2e-9)
        for other in ranking.others:
            assert other.alternative.latency_s == pytest.approx(times[0] + other.more_s, rel=1e-12)
            assert other.more_s > 0 and other.more_share == pytest.approx(other.more_s / times[0])


def by_input(found: tuple[Alternative, ...]) -> list[list[Alternative]]:
    return [list(group) for _, group in itertools.groupby(found, key=lambda k: k.encoding)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["chain", "branches", "return", "memory"]))
def test_every_alternative_by_brute_force(seed: int, shape: str) -> None:
    problem = random_case(seed, shape)
    for k in list_alternatives(problem, SplitRequest("uint8", "relay")):
        plans = list(itertools.product(range(3), repeat=4))
        target = 2 if k.name in ("cloud only", "strict", "relay") else None
        if k.name in ("device only", "cloud only"):
            plans = [(2 if target else 0,) * 4]
        if k.name == "strict":
            plans = [] if shape == "branches" else [plan for plan in plans if set(plan) == {0, 1, 2}]
        least_s = min(
            (
                compute_timeline(problem, k.encoding, plan, target).latency_s
                for plan in plans
                if forward(problem, plan) and within_memory(problem, plan)
            ),
            default=None,
        )
        assert k.latency_s == (None if least_s is None else pytest.approx(least_s, rel=1e-9))


def forward(problem: SplitProblem, plan: tuple[int, ...]) -> bool:
    at = (0, *plan)
    return all(at[i] <= at[n] for n, outputs in enumerate(problem.inputs, 1) for i in outputs)


def within_memory(problem: SplitProblem, plan: tuple[int, ...]) -> bool:
    counts = np.bincount(plan, minlength=3)
    return all(
        d.memory_bytes is None or n <= d.memory_bytes for d, n in zip(problem.devices, counts, strict=True)
    )


def test_a_result_that_is_not_proven_is_never_worse_than_what_its_policy_contains() -> None:
    problem = random_problem(np.random.default_rng(5), DIAMOND, 3)
    found = {k.name: k for k in list_alternatives(problem, SplitRequest("uint8", "relay", time_limit_s=0.0))}
    assert found["stop-early"].latency_s is not None and found["relay"].latency_s is not None
    for name in ("device only", "cloud only", "relay"):
        assert found["stop-early"].latency_s <= (found[name].latency_s or np.inf)


def test_the_worked_verdict() -> None:
    found = list_alternatives(worked_problem(), SplitRequest("uint8", "strict"))
    times = {(k.name, k.encoding): round((k.latency_s or 0) * 1e3, 6) for k in found}
    assert times["device only", "uint8"] == 232.0 and times["cloud only", "uint8"] == 82.44456
    assert times["strict", "float32"] == 155.24904 and times["relay", "uint8"] == 58.37896
    # Without 4000 bytes over the last two links: 0.64 + 0.16.
    assert times["stop-early", "uint8"] == 57.57896
    (best,) = rank(found).fastest
    assert (best.name, best.encoding, set(best.devices), best.is_split) == (
        "stop-early",
        "uint8",
        {"sbs"},
        False,
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(POLICIES), st.floats(-2, 3))
def test_rates_where_a_layer_on_the_first_device_beats_cloud_only(
    seed: int, policy: str, log_rate: float
) -> None:
    problem = random_case(seed, "chain")
    found = explain_split(problem, split(problem, SplitRequest("uint8", policy)))
    assert found.break_even_bps is not None and found.faster_above_bps is not None
    for rate in (10**log_rate, problem.links[0].capacity_bps):
        if any(
            0.999 < rate / edge < 1.001 for edge in (found.break_even_bps, found.faster_above_bps) if edge
        ):
            continue
        other = with_link_rate(problem, rate)
        again = explain_split(other, split(other, SplitRequest("uint8", policy)))
        assert again.faster_than_cloud == (rate < found.break_even_bps or rate > found.faster_above_bps)
        assert again.first_device_devices[0] == 0


def test_no_layer_may_run_on_the_first_device() -> None:
    problem = worked_problem()
    first = replace(problem.devices[0], max_layers=0)
    held = replace(problem, devices=(first, *problem.devices[1:]))
    found = explain_split(held, split(held, SplitRequest("uint8", "relay")))
    assert found.first_device_s == np.inf and not found.faster_than_cloud
    rows = {
        k.name: k for k in list_alternatives(held, SplitRequest("uint8", "relay")) if k.encoding == "uint8"
    }
    assert rows["device only"].reason == "ue runs 9 layers, its max_layers is 0"


def test_a_given_split_is_an_alternative_of_its_own() -> None:
    problem = worked_problem()
    request = SplitRequest("uint8", "relay", method="given", placement=(0, 0, 0, 0, 1, 1, 1, 2, 3))
    found = list_alternatives(problem, request, split(problem, request))
    times = {(k.name, k.encoding): k.latency_s for k in found}
    assert times["given", "uint8"] == times["given", "float32"] == times["strict", "uint8"]
    asked = replace(request, policy="strict", placement=(1,) * 9)
    rows = [k for k in list_alternatives(problem, asked, split(problem, asked)) if k.name == "given"]
    assert {k.reason for k in rows} == {"no layer on ue, mbs, cloud, policy strict gives every device one"}
