import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_problems import mesh_problem, random_problem

from jmsnas.errors import InfeasibleError
from jmsnas.nas.split.methods import SplitRequest, SplitResult, split
from jmsnas.nas.split.problem import SplitProblem, as_chain
from jmsnas.nas.split.shared_weights import weights_of_units
from jmsnas.nas.split.timeline import compute_timeline, objective_value, result_device

# Bytes of four weights, of which a unit holds any.
SIZES = {"a": 7.0, "b": 5.0, "c": 3.0, "d": 2.0}
HELD = st.lists(st.sets(st.sampled_from(sorted(SIZES)), max_size=3), min_size=5, max_size=5)


def holding(problem: SplitProblem, held_N: Sequence[set[str]]) -> SplitProblem:
    weight_bytes_N, shared = weights_of_units([{name: SIZES[name] for name in sorted(own)} for own in held_N])
    return replace(problem, weight_bytes_N=weight_bytes_N, shared_weights=shared)


def limited(problem: SplitProblem, limits: Sequence[float | None]) -> SplitProblem:
    pairs = zip(problem.devices, limits, strict=True)
    return replace(problem, devices=tuple(replace(device, memory_bytes=limit) for device, limit in pairs))


def fits(problem: SplitProblem, held_N: Sequence[set[str]], devices: Sequence[int]) -> bool:
    """Whether every device holds the union of its units' weights within its memory, counted by name."""
    for m, device in enumerate(problem.devices):
        own = [n for n, placed in enumerate(devices) if placed == m]
        names = set().union(*(held_N[n] for n in own))
        used = sum(SIZES[name] for name in names) + max((problem.peak_bytes_N[n] for n in own), default=0.0)
        if device.memory_bytes is not None and used > device.memory_bytes:
            return False
    return True


def solved(problem: SplitProblem, request: SplitRequest) -> SplitResult | None:
    try:
        return split(problem, request)
    except InfeasibleError:
        return None


@settings(max_examples=60, deadline=None)
@given(
    HELD,
    st.lists(st.sampled_from([None, 2.0, 5.0, 8.0, 10.0, 15.0, 18.0]), min_size=3, max_size=3),
    st.sampled_from(["strict", "relay", "stop-early"]),
    st.sampled_from(["latency", "throughput", "energy"]),
    st.integers(0, 99),
)
def test_chains_by_brute_force(
    held_N: list[set[str]], limits: list[float | None], policy: str, objective: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, tuple((n,) for n in range(5)), 3)
    problem = replace(problem, peak_bytes_N=rng.integers(0, 3, 5).astype(float))
    problem = limited(holding(problem, held_N), limits)
    target = result_device(problem, policy)
    values = [
        objective_value(compute_timeline(problem, "uint8", devices, target), objective)
        for devices in itertools.combinations_with_replacement(range(3), 5)
        if fits(problem, held_N, devices) and (policy != "strict" or len(set(devices)) == 3)
    ]
    found = solved(problem, SplitRequest("uint8", policy, objective=objective))
    assert (found is None) == (not values)
    if found:
        assert objective_value(found.timeline, objective) == pytest.approx(min(values), rel=1e-9)
        assert found.allowed and fits(problem, held_N, found.devices)
        # Baselines ignore memory: whether their placement is allowed counts each weight once too.
        other = split(problem, SplitRequest("uint8", policy, method="device"))
        assert other.allowed == (fits(problem, held_N, other.devices) and policy != "strict")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sets(st.sampled_from(sorted(SIZES)), max_size=3), min_size=10, max_size=10),
    st.lists(st.sampled_from([None, 5.0, 10.0, 12.0, 15.0, 17.0]), min_size=7, max_size=7),
    st.integers(0, 99),
)
def test_meshes_by_brute_force(held_N: list[set[str]], limits: list[float | None], seed: int) -> None:
    problem = mesh_problem(np.random.default_rng(seed), "broadcast", 3)
    problem = limited(holding(problem, held_N), limits)
    ue, root, behind, cloud = (problem.names.index(name) for name in ("ue", "root", "behind", "cloud"))
    children = [problem.names.index(name) for name in ("a", "b", "c")]
    values = []
    for k, j in itertools.product(range(4), repeat=2):
        trunk, tail = (ue,) * k + (root,) * (3 - k), (behind,) * j + (cloud,) * (3 - j)
        for a, b, c in itertools.permutations(children):
            devices = (*trunk, a, b, b, c, *tail)
            if fits(problem, held_N, devices):
                values.append(compute_timeline(problem, "uint8", devices, cloud).latency_s)
    found = solved(problem, SplitRequest("uint8", "relay"))
    assert (found is None) == (not values)
    if found:
        assert found.timeline.latency_s == pytest.approx(min(values), rel=1e-9) and found.allowed


def test_one_weight_of_three_uses_by_hand() -> None:
    problem = random_problem(np.random.default_rng(0), ((0,), (1,), (2,)), 2)
    held = [{"a"}, {"a", "c"}, {"a"}]
    problem = holding(problem, held)
    assert problem.weight_bytes_N.tolist() == [7.0, 10.0, 7.0]
    assert [problem.held_bytes(units) for units in ([0], [0, 1], [0, 2], [0, 1, 2], [])] == [7, 10, 7, 10, 0]
    slow = replace(problem, tau_NM=np.array([[1.0, 9.0]] * 3))
    for limit, devices in ((10.0, (0, 0, 0)), (9.9, (0, 1, 1)), (6.9, (1, 1, 1))):
        found = split(limited(slow, [limit, None]), SplitRequest("uint8", "stop-early"))
        assert found.devices == devices
    with pytest.raises(InfeasibleError, match=r"random \(1e-05 MB of weights\) fits no split"):
        split(limited(slow, [6.0, 9.0]), SplitRequest("uint8", "relay"))


def test_layers_of_several_units_hold_a_weight_once() -> None:
    # A unit, three units that become one layer, a unit after them.
    problem = random_problem(np.random.default_rng(0), ((0,), (1,), (1,), (2, 3), (4,)), 2)
    problem = holding(problem, [{"a"}, {"a", "b"}, {"b"}, {"c"}, {"a"}])
    chain, counts = as_chain(problem)
    assert counts == (1, 3, 1) and chain.weight_bytes_N.tolist() == [7.0, 15.0, 7.0]
    assert [(weight.size_bytes, weight.units) for weight in chain.shared_weights] == [(7.0, (0, 1, 2))]
    assert chain.held_bytes(range(3)) == problem.held_bytes(range(5)) == 15.0
