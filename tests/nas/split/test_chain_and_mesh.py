import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from split_problems import mesh_problem, with_calls

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
    call_s = {device.name: device.call_s for device in problem.devices}
    counts = {"ue": trunk, "root": 3 - trunk, "behind": tail, "cloud": 3 - tail}
    t_s = sum(call_s[name] for name, count in counts.items() if count) + (
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
            own = tau_NM[branch.start : branch.stop, at(child)].sum() + call_s[child]
            size = float(problem.output_bytes_N[branch[-1]])
            ends.append(copies + own + sends_s(problem, child, "behind", size))
        slowest_s.append(max(ends))
    joined, N = fork.tail.start, problem.N
    t_s += min(slowest_s) + tau_NM[joined : joined + tail, at("behind")].sum()
    if early and tail == 3:
        return float(t_s)
    sizes = [float(problem.output_bytes_N[branch[-1]]) for branch in fork.branches]
    joined_bytes = max(sizes) if problem.join == "sum" else sum(sizes)
    carried = sent_bytes_L[joined + tail] if tail else joined_bytes
    return float(
        t_s + sends_s(problem, "behind", "cloud", carried) + tau_NM[joined + tail : N, at("cloud")].sum()
    )


@pytest.mark.parametrize("policy", ["strict", "relay", "stop-early"])
@pytest.mark.parametrize("fan_out", ["broadcast", "serial"])
def test_no_split_of_equation_2_is_faster(policy: str, fan_out: str) -> None:
    for seed in range(25):
        # Two or three branches for three children; joined by a sum of one size, or concatenated of any.
        random, branches = np.random.default_rng(seed), 2 + seed % 2
        problem = replace(mesh_problem(random, fan_out, branches), join="sum")
        problem = with_calls(problem, random) if seed % 2 else problem
        if seed % 3:
            sizes = random.uniform(0, 1, problem.N)
            problem = replace(problem, output_bytes_N=sizes, join=["", "concat"][seed % 3 - 1])
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


@pytest.mark.parametrize(
    ("name", "latency_s"), [("strict_spare_child", 1.023), ("unequal_branch_ends_two_behind", 0.1856)]
)
def test_spare_children_and_unlike_ends_are_split_under_strict(name: str, latency_s: float) -> None:
    problem, own = read_problem(CASES / f"{name}.json")
    found = split(problem, SplitRequest(own["input"], "strict"))
    assert found.proven and found.allowed
    assert found.timeline.latency_s == pytest.approx(latency_s, rel=1e-3)
    fork, tree = problem.fork, problem.tree
    assert fork and tree
    # Only children may be without a layer, and only where there are fewer branches.
    idle = {name for m, name in enumerate(problem.names) if m not in found.devices}
    assert idle <= set(tree.children) and len(idle) == len(tree.children) - len(fork.branches)


def test_the_joined_output_is_sent_once() -> None:
    problem = mesh_problem(np.random.default_rng(3), "broadcast", 3)
    tau_NM = problem.tau_NM.copy()
    tau_NM[problem.fork.tail.start if problem.fork else 0 :, 5] = 1e6  # nothing runs behind the join
    for join, size in (("sum", 0.5), ("concat", 1.5), ("", 0.5)):
        found = split(replace(problem, tau_NM=tau_NM, join=join), SplitRequest("uint8", "relay"))
        (sent,) = [step for step in found.timeline.steps if step.device == "behind" and step.target]
        assert sent.sent_bytes == size and sent.units == (4, 6, 7) and found.proven


def test_a_fork_of_the_raw_input() -> None:
    # Two branches of one layer, a join; no trunk: the root forwards the encoded raw input.
    problem = mesh_problem(np.random.default_rng(4), "serial", 2)
    rows = [3, 4, 6, 7]
    bare = replace(
        problem,
        units=tuple(problem.units[n] for n in rows),
        **{
            name: getattr(problem, name)[rows]
            for name in ("tau_NM", "low_NM", "high_NM", "output_bytes_N", "weight_bytes_N", "peak_bytes_N")
        },
        inputs=((0,), (0,), (1, 2), (3,)),
    )
    raw = bare.input_bytes["uint8"]
    found = split(bare, SplitRequest("uint8", "relay"))
    ends = []
    for x, y in itertools.permutations("abc", 2):
        copies = [sends_s(bare, "root", child, raw) for child in (x, y)]
        own = [
            bare.tau_NM[b, bare.names.index(child)]
            + sends_s(bare, child, "behind", float(bare.output_bytes_N[b]))
            for b, child in enumerate((x, y))
        ]
        ends.append(max(copies[0] + own[0], sum(copies) + own[1]))
        ends.append(max(copies[1] + own[1], sum(copies) + own[0]))
    joined = bare.joined_bytes
    behind, cloud = (bare.tau_NM[2:, bare.names.index(name)] for name in ("behind", "cloud"))
    tails = [
        sum(behind[:n]) + sends_s(bare, "behind", "cloud", size) + sum(cloud[n:])
        for n, size in enumerate((joined, *bare.output_bytes_N[2:].tolist()))
    ]
    least_s = sends_s(bare, "ue", "root", raw) + min(ends) + min(tails)
    assert found.timeline.latency_s == pytest.approx(least_s, rel=1e-12) and found.proven and found.allowed
    with pytest.raises(InfeasibleError, match="each of 2 devices a layer, the trunk of random has 0"):
        split(bare, SplitRequest("uint8", "strict"))


def test_nothing_sent_and_nothing_computed() -> None:
    problem = mesh_problem(np.random.default_rng(5), "serial", 2)
    none = np.zeros_like(problem.tau_NM)
    sizes = np.zeros(problem.N)
    empty = replace(problem, tau_NM=none, low_NM=none, high_NM=none, output_bytes_N=sizes)
    found = split(replace(empty, input_bytes={"uint8": 0.0}), SplitRequest("uint8", "strict"))
    # The delays of five hops: to the root, two copies, to the join, to the cloud.
    assert found.timeline.latency_s == pytest.approx(0.05) and found.proven


def test_a_child_with_a_least_number_of_layers_is_never_spare() -> None:
    problem = mesh_problem(np.random.default_rng(0), "broadcast")
    free = split(problem, SplitRequest("uint8", "relay"))
    (spare,) = {2, 3, 4} - set(free.devices)
    devices = [replace(d, min_layers=1) if m == spare else d for m, d in enumerate(problem.devices)]
    found = split(replace(problem, devices=tuple(devices)), SplitRequest("uint8", "relay"))
    assert spare in found.devices and found.proven and found.allowed
    assert found.timeline.latency_s >= free.timeline.latency_s


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
    with pytest.raises(TopologyError, match="or, for latency, branches on a mesh"):
        split(replace(problem, tree=None), SplitRequest("uint8", "strict"))
