import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.latency import Branch, completion_latency
from jmsnas.nas.split import solve_dag as solve_dag_module
from jmsnas.nas.split.dag import Dag, articulation_points, dag_latency, finish_times, make_dag
from jmsnas.nas.split.links import LinkArrays
from jmsnas.nas.split.solve_dag import solve_dag
from jmsnas.nas.split.solve_device_graph import solve_device_graph


def random_dag(rng: np.random.Generator, N: int, M: int) -> Dag:
    inputs = [set(rng.choice(n, min(n, int(rng.integers(1, 3))), replace=False)) for n in range(1, N + 1)]
    inputs[-1] |= set(range(N)) - set().union(*inputs)
    delay_MM, per_byte_MM = rng.choice([0, 0.05, 0.5]) * rng.random((M, M)), rng.uniform(0.1, 1, (M, M))
    for array in (delay_MM, per_byte_MM):
        np.fill_diagonal(array, 0)
    sent_bytes_L = 10 ** rng.uniform(-2, 0.5) * rng.uniform(0, 1, N + 1)
    links = LinkArrays(delay_MM, per_byte_MM, per_byte_MM)
    tau_NM, call_M = rng.uniform(0.1, 1, (N, M)), rng.choice([0, 0.05, 0.5]) * rng.uniform(0, 1, M)
    return make_dag(tau_NM, sent_bytes_L, links, [tuple(map(int, sorted(t))) for t in inputs], call_M)


def least(dag: Dag, target: int | None) -> float:
    plans_KN = np.array(list(itertools.product(range(dag.M), repeat=dag.N)))
    latency_K = finish_times(dag, plans_KN, np.zeros(len(plans_KN), dtype=np.intp))[:, -1]
    if target is not None:
        latency_K = latency_K + dag.routed_LMM[-1, plans_KN[:, -1], target]
    return float(latency_K.min())


def test_a_device_is_called_once_for_an_output_that_it_receives() -> None:
    # Fork 1, branches 2 and 3, join 4, of 1 s each; calls take 10 s and 20 s, links nothing. All on device 0:
    # one call, 10 + 4. Branches on device 1: it is called once for output 1, 20 s, and device 0 once more for
    # the join: 10 + 1, + 20 + 2, + 10 + 1. Branch 3 alone on device 1: 10 + 1, then 20 + 1 beside 1, then 11.
    inputs = ((0,), (1,), (1,), (2, 3))
    dag = Dag(np.ones((4, 2)), np.zeros((5, 2, 2)), inputs, np.array([10.0, 20.0]))
    assert dag_latency(dag, (0, 0, 0, 0)) == 14 and dag_latency(dag, (0, 1, 1, 0)) == 44
    assert dag_latency(dag, (0, 0, 1, 0)) == 43 and solve_dag(dag).latency_s == 14


def test_brute_force_agrees() -> None:
    rng = np.random.default_rng(5)
    for _ in range(600):
        dag = random_dag(rng, int(rng.integers(1, 6)), int(rng.integers(1, 4)))
        target = None if rng.random() < 0.5 else dag.M - 1
        found = solve_dag(dag, 0, target)
        assert found.latency_s == pytest.approx(least(dag, target), rel=1e-9)
        assert found.optimal and dag_latency(dag, found.devices, 0, target) == found.latency_s


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 12), st.booleans())
def test_the_bound_holds_where_placements_are_left_out(seed: int, rows: int, alike: bool) -> None:
    rng = np.random.default_rng(seed)
    dag = random_dag(rng, int(rng.integers(4, 8)), int(rng.integers(2, 4)))
    if alike:
        dag = replace(dag, tau_NM=np.repeat(dag.tau_NM[:, :1], dag.M, axis=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solve_dag_module, "_ROWS", (rows,))
        found = solve_dag(dag)
    least_s = least(dag, None)
    assert 0 < found.bound_s <= least_s * (1 + 1e-9) and found.latency_s >= least_s * (1 - 1e-9)
    assert dag_latency(dag, found.devices) == found.latency_s


def test_units_that_may_run_on_some_devices_only() -> None:
    rng = np.random.default_rng(9)
    for _ in range(200):
        dag = random_dag(rng, int(rng.integers(2, 6)), 3)
        allowed_NM = rng.random((dag.N, 3)) < 0.5
        dag = replace(dag, tau_NM=np.where(allowed_NM, dag.tau_NM, np.inf))
        if allowed_NM.any(axis=1).all():
            assert solve_dag(dag).latency_s == pytest.approx(least(dag, None), rel=1e-9)
        else:
            with pytest.raises(InfeasibleError, match="no split of .* no route leads through all of them"):
                solve_dag(dag)


def test_a_module_of_four_branches_over_eight_like_devices_is_proven() -> None:
    # The branches of an inception module: too many placements to enumerate, and each path is short.
    rng = np.random.default_rng(10)
    inputs = ((0,), (1,), (1,), (3,), (1,), (5,), (1,), (7,), (2, 4, 6, 8), (9,))
    for _ in range(5):
        tau_NM = np.repeat(rng.uniform(0.5, 1.5, (10, 1)), 8, axis=1)
        per_byte_MM = rng.uniform(0.1, 0.5, (8, 8)) * (1 - np.eye(8))
        links = LinkArrays(0 * per_byte_MM, per_byte_MM, per_byte_MM)
        dag = make_dag(tau_NM, rng.uniform(0.5, 1, 11), links, inputs)
        assert solve_dag(dag).optimal


def test_a_chain_is_a_dag() -> None:
    rng = np.random.default_rng(6)
    per_byte_MM = rng.uniform(0.1, 1, (4, 4)) * (1 - np.eye(4))
    links = LinkArrays(0.1 * per_byte_MM, per_byte_MM, per_byte_MM)
    tau_NM, sent_bytes_L = rng.uniform(0.1, 1, (9, 4)), rng.uniform(0, 1, 10)
    dag = make_dag(tau_NM, sent_bytes_L, links, [(n,) for n in range(9)])
    assert articulation_points(dag) == tuple(range(10))
    expected = solve_device_graph(tau_NM, sent_bytes_L, links, target=3).latency_s
    assert solve_dag(dag, 0, 3).latency_s == pytest.approx(expected, rel=1e-12)


def test_equation_2_is_a_dag_over_different_devices() -> None:
    # Fig. 2(b): root on device 1, branches on 2, 3 and 4, join on 5. Units: UE, root, three branches, cloud.
    rng = np.random.default_rng(7)
    tau_NM, routed_LMM = rng.uniform(1, 2, (6, 6)), rng.uniform(1, 2, (7, 6, 6))
    routed_LMM *= 1 - np.eye(6)
    dag = Dag(tau_NM, routed_LMM, ((0,), (1,), (2,), (2,), (2,), (3, 4, 5)), np.zeros(6))
    tau = [float(tau_NM[n, n]) for n in range(6)]
    branches = [Branch(routed_LMM[2, 1, m], tau[m], routed_LMM[m + 1, m, 5]) for m in (2, 3, 4)]
    expected = completion_latency([tau[0], tau[5]], [routed_LMM[1, 0, 1], 0.0], tau[1], branches)
    assert dag_latency(dag, range(6)) == pytest.approx(expected, rel=1e-12)
    assert articulation_points(dag) == (0, 1, 2, 6)


def test_two_branches_on_one_device_wait_for_one_another() -> None:
    # Fork 1, branches of 3 and 4, join 2, all on one device: 1 + 3 + 4 + 2 = 10, not 1 + 4 + 2.
    tau_NM, inputs = np.array([[1.0], [3.0], [4.0], [2.0]]), ((0,), (1,), (1,), (2, 3))
    dag = Dag(tau_NM, np.zeros((5, 1, 1)), inputs, np.zeros(1))
    assert dag_latency(dag, (0, 0, 0, 0)) == 10.0 and solve_dag(dag).latency_s == 10.0


def test_a_time_limit_states_its_gap() -> None:
    rng = np.random.default_rng(8)
    dag = random_dag(rng, 12, 3)
    found = solve_dag(dag, time_limit_s=-1.0)
    assert not found.optimal and 0 < found.bound_s < found.latency_s
    best = solve_dag(dag)
    assert best.optimal and found.bound_s <= best.latency_s * (1 + 1e-12)
    assert best.latency_s <= found.latency_s


def test_what_no_dag_can_be() -> None:
    ones, moves = np.ones((2, 1)), np.zeros((3, 1, 1))
    with pytest.raises(
        TopologyError, match=r"unit 1 reads outputs \(1,\): expected one or more of 0 .* to 0"
    ):
        Dag(ones, moves, ((1,), (0,)), np.zeros(1))
    with pytest.raises(TopologyError, match="no unit reads output 1: expected readers of all but"):
        Dag(ones, moves, ((0,), (0,)), np.zeros(1))
    nowhere = Dag(np.full((1, 1), np.inf), moves[:2], ((0,),), np.zeros(1))
    with pytest.raises(
        InfeasibleError, match="no split of 1 units over 1 devices: no route leads through all"
    ):
        solve_dag(nowhere)
