from dataclasses import replace

import numpy as np
import pytest
from split_problems import mesh_costs, random_costs, worked_costs

from jmsnas.errors import InputError
from jmsnas.nas.split.explain import explain_split
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem import with_link_rate
from jmsnas.nas.split.rate_lines import rate_lines
from jmsnas.nas.split.rate_sweep import find_link, parse_rate_sweep, sweep_rate
from jmsnas.nas.split.timeline import result_device, timeline

CHAIN = tuple((n,) for n in range(6))


@pytest.mark.parametrize("policy", ["strict", "relay", "stop-early"])
@pytest.mark.parametrize("link", [0, 1])
def test_plans_are_the_best_at_every_rate(policy: str, link: int) -> None:
    rng = np.random.default_rng(13)
    for _ in range(8):
        costs = random_costs(rng, CHAIN, 3)
        rate = costs.links[link].capacity_bps
        asked = SplitRequest("uint8", policy)
        found = sweep_rate(costs, asked, link, rate / 20, rate * 20)
        starts = [bps for bps, _ in found.switches]
        assert starts == sorted(starts)
        for bps in np.geomspace(rate / 20, rate * 20, 15):
            line = [its for start, its in found.switches if start <= bps * (1 + 1e-12)][-1]
            best = split(with_link_rate(costs, float(bps), link), asked).timeline.latency_s
            assert line.latency_s(float(bps)) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("policy", ["strict", "relay", "stop-early"])
@pytest.mark.parametrize("fan_out", ["broadcast", "serial"])
def test_plans_are_the_best_at_every_rate_of_any_link_of_a_mesh(policy: str, fan_out: str) -> None:
    rng = np.random.default_rng(15)
    for _ in range(4):
        costs = mesh_costs(rng, fan_out, 3 if policy == "strict" else 2)
        asked = SplitRequest("uint8", policy)
        for link in range(len(costs.links)):
            rate = costs.links[link].capacity_bps
            found = sweep_rate(costs, asked, link, rate / 20, rate * 20)
            for bps in np.geomspace(rate / 20, rate * 20, 9):
                line = [its for start, its in found.switches if start <= bps * (1 + 1e-12)][-1]
                there = with_link_rate(costs, float(bps), link)
                assert line.latency_s(float(bps)) == pytest.approx(
                    split(there, asked).timeline.latency_s, rel=1e-9
                )
                # The plan itself takes as long as its line says.
                own = timeline(there, "uint8", line.devices, result_device(there, policy)).latency_s
                assert own == pytest.approx(line.latency_s(float(bps)), rel=1e-9)
            # Of all plans over many rates: none loses less to the best one.
            rates = np.geomspace(rate / 20, rate * 20, 60).tolist()
            lines = rate_lines(costs, asked, link)
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
        costs = random_costs(rng, CHAIN, 2)
        low, high = costs.links[0].capacity_bps / 20, costs.links[0].capacity_bps * 20
        found = sweep_rate(costs, SplitRequest("uint8", "relay"), 0, low, high)
        rates = np.geomspace(low, high, 60)
        every = []
        for k in range(7):
            at = [with_link_rate(costs, float(rate)) for rate in rates]
            plan = (0,) * k + (1,) * (6 - k)
            told = [its.tau_NM[np.arange(6), plan].sum() + its.epsilon_LM("uint8")[k, 0] for its in at]
            every.append(told)
        regrets = (np.array(every) - np.min(every, axis=0)).max(axis=1)
        assert found.regret_s == pytest.approx(regrets.min(), rel=1e-9, abs=1e-12)
        assert found.worst_case.latency_s(low) == pytest.approx(np.array(every)[:, 0].min())


def test_what_would_meet_a_deadline() -> None:
    costs = worked_costs()
    asked = SplitRequest("uint8", "relay")
    found = explain_split(costs, split(costs, asked), deadline_s=0.05)
    factor = {change.what: change.factor for change in found.changes}
    # 48.16896 / x + 10.21 = 50 ms: x = 1.21055. The link behind the SBS carries 4000 bytes: no speed is
    # enough.
    assert factor["link ue -> sbs"] == pytest.approx(1.21055, rel=2e-4)
    assert factor["link sbs -> mbs"] is None and factor["device cloud"] is None
    faster = with_link_rate(costs, 25e6 * (factor["link ue -> sbs"] or 0))
    assert split(faster, asked).timeline.latency_s == pytest.approx(0.05, rel=2e-4)
    assert sum(seconds for _, _, seconds in found.units) >= 0.05837896 - 0.05
    met = explain_split(costs, split(costs, asked), deadline_s=0.06)
    assert met.changes == () and met.units == ()


def test_what_no_sweep_can_be() -> None:
    costs = worked_costs()
    assert parse_rate_sweep("rate=1..200Mbit/s", costs) == (0, 1e6, 200e6)
    assert parse_rate_sweep("rate:sbs=1..2Gbit/s", costs) == (1, 1e9, 2e9)
    for text, words in (
        (
            "speed=1..2Mbit/s",
            "cannot read --sweep 'speed=1..2Mbit/s': expected a range such as rate=1..200Mbit/s",
        ),
        ("rate=0..5Mbit/s", "goes from 0 to 5e.06 bit/s: expected 0 < low < high"),
        ("rate=5..5Mbit/s", "expected 0 < low < high"),
        ("rate:ue:cloud=1..5Mbit/s", "no link behind 'ue' to 'cloud', expected one of sbs"),
        ("rate:cloud=1..5Mbit/s", "no link behind 'cloud', expected one of ue, sbs, mbs"),
    ):
        with pytest.raises(InputError, match=words):
            parse_rate_sweep(text, costs)


def test_links_are_found_by_their_ends_not_by_their_order() -> None:
    costs = worked_costs()
    turned = replace(costs, links=costs.links[::-1])
    asked = SplitRequest("uint8", "relay")
    own, other = (sweep_rate(its, asked, find_link(its), 1e6, 200e6) for its in (costs, turned))
    assert own == other and own.link == "ue -> sbs"
    mesh = mesh_costs(np.random.default_rng(0), "broadcast")
    assert mesh.links[find_link(mesh, "root", "b")].target == "b"
    with pytest.raises(InputError, match="several links are behind 'root': .* rate:root:a, rate:root:b"):
        parse_rate_sweep("rate:root=1..2Mbit/s", mesh)
