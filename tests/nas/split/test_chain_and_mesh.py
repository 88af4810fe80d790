import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from split_problems import mesh_problem

from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_file import read_problem

CASES = Path(__file__).parents[2] / "cases" / "split"


def sends_s(problem: SplitProblem, source: str, target: str, size: float) -> float:
    return next(k for k in problem.links if (k.source, k.target) == (source, target)).epsilon_s(size)


def equation_2(problem: SplitProblem, trunk: int, children: tuple[str, ...], tail: int, early: bool) -> float:
    """T, by hand: of the trunk `trunk` layers on the UE, of the tail `tail` on the device behind the join.

    Serial copies are sent in the best of all orders.
    """
    fork, sent_bytes_L = problem.fork, problem.sent_bytes_L("uint8")
    assert fork and problem.tree
    tau_NM, at = problem.tau_NM, problem.names.index
    t_s = (
        tau_NM[:trunk, 0].sum()
        + sends_s(problem, "ue", "root", sent_bytes_L[trunk])
        + tau_NM[trunk:3, 1].sum()
    )
    slowest_s = []
    for order in itertools.permutations(children):
        copies, ends = 0.0, []
        for child in order:
            copies = sends_s(problem, "root", child, sent_bytes_L[3]) + copies * (
                problem.tree.fan_out == "serial"
            )
            branch = fork.branches[children.index(child)]
            own = tau_NM[branch.start : branch.stop, at(child)].sum()
            ends.append(copies + own + sends_s(problem, child, "behind", 0.5))
        slowest_s.append(max(ends))
    joined, N = fork.tail.start, problem.N
    t_s += min(slowest_s) + tau_NM[joined : joined + tail, at("behind")].sum()
    if early and tail == 3:
        return float(t_s)
    carried = sent_bytes_L[joined + tail] if tail else 0.5
    return float(
        t_s + sends_s(problem, "behind", "cloud", carried) + tau_NM[joined + tail : N, at("cloud")].sum()
    )


@pytest.mark.parametrize("policy", ["strict", "relay", "stop-early"])
@pytest.mark.parametrize("fan_out", ["broadcast", "serial"])
def test_no_split_of_equation_2_is_faster(policy: str, fan_out: str) -> None:
    for seed in range(25):
        branches = 3 if policy == "strict" else 2
        problem = mesh_problem(np.random.default_rng(seed), fan_out, branches)
        strict, early = policy == "strict", policy == "stop-early"
        every = itertools.product(
            (1, 2) if strict else range(4),
            itertools.permutations("abc", branches),
            (1, 2) if strict else range(4),
        )
        least_s = min(equation_2(problem, *its, early) for its in every)
        found = split(problem, SplitRequest("uint8", policy))
        assert found.timeline.latency_s == pytest.approx(least_s, rel=1e-12)
        assert found.proven and found.allowed


@pytest.mark.parametrize(
    ("name", "latency_ms"),
    [("serial_order", 69.055228), ("serial_10_branches_20_children", 115.6)],
)
def test_children_and_the_order_of_sending_are_chosen_together(name: str, latency_ms: float) -> None:
    problem, own = read_problem(CASES / f"{name}.json")
    found = split(problem, SplitRequest(own["input"], "relay"))
    assert found.proven and found.allowed
    assert found.timeline.latency_s * 1e3 == pytest.approx(latency_ms, rel=1e-3)
    # The root sends one copy after another, to the branch with the largest tail first.
    root = problem.tree.root if problem.tree else ""
    copies = [step for step in found.timeline.steps if step.device == root and step.target]
    for one, after in itertools.pairwise(copies):
        assert after.start_s == pytest.approx(one.end_s)
    onward = {
        step.device: step.end_s - copy.end_s
        for copy in copies
        for step in found.timeline.steps
        if step.device == copy.target and step.target
    }
    assert [copy.target for copy in copies] == sorted(onward, key=lambda name: -onward[name])


def test_limits_hold_on_children_too() -> None:
    problem = mesh_problem(np.random.default_rng(0), "broadcast")
    free = split(problem, SplitRequest("uint8", "relay"))
    used = free.devices[4]  # of the branch of two layers, a byte of weights each
    for limit in ({"memory_bytes": 1.5}, {"max_layers": 1}, {"energy_j": 1e-9, "power_w": 1.0}):
        devices = [replace(d, **limit) if m == used else d for m, d in enumerate(problem.devices)]
        found = split(replace(problem, devices=tuple(devices)), SplitRequest("uint8", "relay"))
        assert (
            found.devices[4] != used and found.allowed and found.timeline.latency_s >= free.timeline.latency_s
        )
    tight = replace(problem, devices=tuple(replace(d, memory_bytes=1.5) for d in problem.devices))
    with pytest.raises(InfeasibleError, match="fits no split of its devices' memory"):
        split(tight, SplitRequest("uint8", "relay"))


def test_other_methods_are_not_allowed_by_equation_2() -> None:
    problem = mesh_problem(np.random.default_rng(1), "broadcast")
    alone = split(problem, SplitRequest("uint8", "relay", method="cloud"))
    assert not alone.allowed and split(problem, SplitRequest("uint8", "relay", min_layers=2)).devices[:2] == (
        0,
        0,
    )


def test_what_no_split_meets() -> None:
    problem = mesh_problem(np.random.default_rng(2), "broadcast")
    with pytest.raises(
        InfeasibleError, match="policy strict gives each of 3 children a branch, random has 2"
    ):
        split(problem, SplitRequest("uint8", "strict"))
    uneven = replace(problem, output_bytes_N=np.arange(1.0, problem.N + 1))
    with pytest.raises(TopologyError, match="the branches of random end in 4, 6 bytes, and are summed"):
        split(uneven, SplitRequest("uint8", "relay"))
    with pytest.raises(TopologyError, match="or, for latency, branches on a mesh"):
        split(replace(problem, tree=None), SplitRequest("uint8", "strict"))
