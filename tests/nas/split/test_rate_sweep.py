import itertools
from dataclasses import replace

import numpy as np
import pytest
from split_problems import mesh_problem, random_problem, with_calls, worked_problem

from jmsnas.errors import InputError, TopologyError
from jmsnas.nas.inspection.explain import explain_split
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem import SplitProblem, with_link_rate
from jmsnas.nas.split.rate_sweep import find_link, parse_rate_sweep, rate_lines, sweep_rate
from jmsnas.nas.split.timeline import compute_timeline, result_device
from jmsnas.topology import Link

CHAIN = tuple((n,) for n in range(6))


@pytest.mark.parametrize("policy", ["strict", "relay", "stop-early"])
@pytest.mark.parametrize("link", [0, 1])
def test_plans_are_the_best_at_every_rate(policy: str, link: int) -> None:
    rng = np.random.default_rng(13)
    for _ in range(8):
        problem = with_calls(random_problem(rng, CHAIN, 3), rng)
        rate = problem.links[link].capacity_bps
        asked = SplitRequest("uint8", policy)
        found = sweep_rate(problem, asked, link, rate / 20, rate * 20)
        starts = [bps for bps, _ in found.switches]
        assert starts == sorted(starts)
        for bps in np.geomspace(rate / 20, rate * 20, 15):
            line = [its for start, its in found.switches if start <= bps * (1 + 1e-12)][-1]
            best = split(with_link_rate(problem, float(bps), link), asked).timeline.latency_s
            assert line.latency_s(float(bps)) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("policy", ["strict", "relay", "stop-early"])
@pytest.mark.parametrize("fan_out", ["broadcast", "serial"])
def test_plans_are_the_best_at_every_rate_of_any_link_of_a_mesh(policy: str, fan_out: str) -> None:
    rng = np.random.default_rng(15)
    for _ in range(4):
        problem = with_calls(mesh_problem(rng, fan_out, 3 if policy == "strict" else 2), rng)
        asked = SplitRequest("uint8", policy)
        for link in range(len(problem.links)):
            rate = problem.links[link].capacity_bps
            found = sweep_rate(problem, asked, link, rate / 20, rate * 20)
            for bps in np.geomspace(rate / 20, rate * 20, 9):
                line = [its for start, its in found.switches if start <= bps * (1 + 1e-12)][-1]
                there = with_link_rate(problem, float(bps), link)
                assert line.latency_s(float(bps)) == pytest.approx(
                    split(there, asked).timeline.latency_s, rel=1e-9
                )
                # The plan itself takes as long as its line says.
                own = compute_timeline(there, "uint8", line.devices, result_device(there, policy)).latency_s
                assert own == pytest.approx(line.latency_s(float(bps)), rel=1e-9)
            # Of all plans over many rates: none loses less to the best one.
            rates = np.geomspace(rate / 20, rate * 20, 60).tolist()
            lines = rate_lines(problem, asked, link)
            least = [min(line.latency_s(bps) for line in lines) for bps in rates]
            losses = [
                max(line.latency_s(bps) - best for bps, best in zip(rates, least, strict=True))
                for line in lines
            ]
            assert min(losses) <= found.regret_s * (1 + 1e-9) + 1e-12
            assert found.regret_s <= min(losses) * 1.2 + 1e-6


def test_least_regret_by_brute_force() -> None:
    rng = np.random.default_rng(14)
    for _ in range(8):
        problem = random_problem(rng, CHAIN, 2)
        low, high = problem.links[0].capacity_bps / 20, problem.links[0].capacity_bps * 20
        found = sweep_rate(problem, SplitRequest("uint8", "relay"), 0, low, high)
        rates = np.geomspace(low, high, 60)
        every = []
        for k in range(7):
            at = [with_link_rate(problem, float(rate)) for rate in rates]
            plan = (0,) * k + (1,) * (6 - k)
            timeline = [its.tau_NM[np.arange(6), plan].sum() + its.epsilon_LM("uint8")[k, 0] for its in at]
            every.append(timeline)
        regrets = (np.array(every) - np.min(every, axis=0)).max(axis=1)
        assert found.regret_s == pytest.approx(regrets.min(), rel=1e-9, abs=1e-12)
        assert found.worst_case.latency_s(low) == pytest.approx(np.array(every)[:, 0].min())


def test_what_would_meet_a_deadline() -> None:
    problem = worked_problem()
    asked = SplitRequest("uint8", "relay")
    found = explain_split(problem, split(problem, asked), deadline_s=0.05)
    factor = {change.what: change.factor for change in found.changes}
    # 48.16896 / x + 10.21 = 50 ms: x = 1.21055. The link after the SBS carries 4000 bytes: no speed is
    # enough.
    assert factor["link ue -> sbs"] == pytest.approx(1.21055, rel=2e-4)
    assert factor["link sbs -> mbs"] is None and factor["device cloud"] is None
    faster = with_link_rate(problem, 25e6 * (factor["link ue -> sbs"] or 0))
    assert split(faster, asked).timeline.latency_s == pytest.approx(0.05, rel=2e-4)
    assert sum(seconds for _, _, seconds in found.units) >= 0.05837896 - 0.05
    met = explain_split(problem, split(problem, asked), deadline_s=0.06)
    assert met.changes == () and met.units == ()


def test_what_no_sweep_can_be() -> None:
    problem = worked_problem()
    assert parse_rate_sweep("rate=1..200Mbit/s", problem) == (0, 1e6, 200e6)
    assert parse_rate_sweep("rate:sbs=1..2Gbit/s", problem) == (1, 1e9, 2e9)
    for text, words in (
        (
            "speed=1..2Mbit/s",
            "cannot read --sweep 'speed=1..2Mbit/s': expected a range such as rate=1..200Mbit/s",
        ),
        ("rate=0..5Mbit/s", "goes from 0 to 5e.06 bit/s: expected 0 < low < high"),
        ("rate=5..5Mbit/s", "expected 0 < low < high"),
        ("rate:ue:cloud=1..5Mbit/s", "no link from 'ue' to 'cloud', expected one of sbs"),
        ("rate:cloud=1..5Mbit/s", "no link from 'cloud', expected one of ue, sbs, mbs"),
    ):
        with pytest.raises(InputError, match=words):
            parse_rate_sweep(text, problem)


def test_links_are_found_by_their_ends_not_by_their_order() -> None:
    problem = worked_problem()
    turned = replace(problem, links=problem.links[::-1])
    asked = SplitRequest("uint8", "relay")
    own, other = (sweep_rate(its, asked, find_link(its), 1e6, 200e6) for its in (problem, turned))
    assert own == other and own.link == "ue -> sbs"
    mesh = mesh_problem(np.random.default_rng(0), "broadcast")
    assert mesh.links[find_link(mesh, "root", "b")].target == "b"
    with pytest.raises(InputError, match="several links start at 'root': .* rate:root:a, rate:root:b"):
        parse_rate_sweep("rate:root=1..2Mbit/s", mesh)


def test_lines_of_the_worked_network_and_the_break_even_rate() -> None:
    problem = worked_problem()
    lines = rate_lines(problem, SplitRequest("uint8", "relay"), 0)
    assert [line.cut for line in lines] == list(range(10))
    # Cut 0: everything on the SBS, 9.41 ms there and 0.8 ms for the logits; 150528 bytes on the first link.
    assert lines[0].fixed_s * 1e3 == pytest.approx(9.41 + 0.64 + 0.16) and lines[0].sent_bits == 8 * 150528
    # Cloud only: 30.1056 ms of other links and 4.17 ms. Cut 5 (140.4 on the UE, 4.11 on the SBS, 0.8 of
    # logits; 50176 bytes) beats it below 8 x (150528 - 50176) / (145.31 - 34.2756 ms) = 7.230335 Mbit/s,
    # others later.
    found = explain_split(problem, split(problem, SplitRequest("uint8", "relay")))
    assert found.break_even_bps == pytest.approx(8 * 100352 / 0.1110344, rel=1e-9)
    assert not found.faster_than_cloud and found.cloud_s * 1e3 == pytest.approx(82.444560)
    assert found.bottleneck[0].device == "ue" and found.bottleneck[0].target == "sbs"
    assert explain_split(problem, split(problem, SplitRequest("float32", "relay"))).faster_than_cloud


@pytest.mark.parametrize("policy", ["relay", "stop-early"])
def test_the_way_back_is_part_of_the_line(policy: str) -> None:
    rng = np.random.default_rng(16)
    for link in (0, 1):
        problem = replace(random_problem(rng, tuple((n,) for n in range(5)), 3), returns=True)
        asked, rate = SplitRequest("uint8", policy), problem.links[link].capacity_bps
        lines = rate_lines(problem, asked, link)
        for bps in (rate / 7, rate, rate * 7):
            least = min(line.latency_s(bps) for line in lines)
            assert least == pytest.approx(
                split(with_link_rate(problem, bps, link), asked).timeline.latency_s, rel=1e-9
            )


def test_the_way_back_on_a_mesh() -> None:
    problem = replace(mesh_problem(np.random.default_rng(3), "broadcast"), returns=True)
    asked = SplitRequest("uint8", "relay")
    for bps in (2.0, 20.0, 200.0):
        least = min(line.latency_s(bps) for line in rate_lines(problem, asked, 0))
        assert least == pytest.approx(
            split(with_link_rate(problem, bps, 0), asked).timeline.latency_s, rel=1e-9
        )
    with pytest.raises(TopologyError, match="the result may go back over root -> a or by another route"):
        rate_lines(problem, asked, 1)


def test_break_even_on_a_mesh_is_where_cloud_only_takes_as_long() -> None:
    problem = mesh_problem(np.random.default_rng(25), "broadcast")
    asked = SplitRequest("uint8", "relay")
    rate = explain_split(problem, split(problem, asked)).break_even_bps
    assert rate is not None and 0 < rate < np.inf
    there = with_link_rate(problem, rate, 0)
    cloud_s = split(there, replace(asked, method="cloud")).timeline.latency_s
    assert split(there, replace(asked, min_layers=1)).timeline.latency_s == pytest.approx(cloud_s, rel=1e-9)


def test_what_no_lines_can_be() -> None:
    problem = worked_problem()
    graph = replace(problem, links=(*problem.links, Link("ue", "cloud", 1e6)))
    with pytest.raises(
        TopologyError, match="a sweep needs a chain of layers on a chain of two devices or more"
    ):
        rate_lines(graph, SplitRequest("uint8", "relay"), 0)
    with pytest.raises(TopologyError, match="all assignments of 2 branches to 230 children, more than 50000"):
        rate_lines(_wide(230), SplitRequest("uint8", "relay"), 2)


def _wide(children: int) -> SplitProblem:
    problem = mesh_problem(np.random.default_rng(0), "broadcast")
    assert problem.tree
    names = tuple(f"k{n}" for n in range(children))
    keep, more = [0, 1, 5, 6], [2] * children
    order = [0, 1, *more, 5, 6]
    devices = [problem.devices[m] for m in keep[:2]]
    devices += [replace(problem.devices[2], name=name) for name in names]
    devices += [problem.devices[m] for m in keep[2:]]
    links = [problem.links[0], problem.links[-1]]
    links += itertools.chain.from_iterable((Link("root", n, 1e3), Link(n, "behind", 1e3)) for n in names)
    taus = problem.tau_NM[:, order]
    return replace(
        problem, devices=tuple(devices), links=tuple(links), tau_NM=taus, low_NM=taus, high_NM=taus,
        tree=replace(problem.tree, children=names),
    )  # fmt: skip
