from dataclasses import replace

import numpy as np
import pytest
from cost_tables import random_costs, worked_costs

from jmsnas.errors import InputError, NetworkError
from jmsnas.nas.costs import at_rate
from jmsnas.nas.split_explain import explain
from jmsnas.nas.split_methods import Question, split
from jmsnas.nas.split_sweep import parse_sweep, rate_lines, sweep
from jmsnas.network import Link

CHAIN = tuple((n,) for n in range(6))


@pytest.mark.parametrize("policy", ["strict", "relay", "stop-early"])
@pytest.mark.parametrize("link", [0, 1])
def test_plans_are_the_best_at_every_rate(policy: str, link: int) -> None:
    rng = np.random.default_rng(13)
    for _ in range(8):
        costs = random_costs(rng, CHAIN, 3)
        rate = costs.links[link].capacity_bps
        asked = Question("uint8", policy)
        found = sweep(costs, asked, link, rate / 20, rate * 20)
        starts = [bps for bps, _ in found.switches]
        assert starts == sorted(starts)
        for bps in np.geomspace(rate / 20, rate * 20, 15):
            line = [its for start, its in found.switches if start <= bps * (1 + 1e-12)][-1]
            best = split(at_rate(costs, float(bps), link), asked).told.latency_s
            assert line.latency_s(float(bps)) == pytest.approx(best, rel=1e-9)


def test_least_regret_by_brute_force() -> None:
    rng = np.random.default_rng(14)
    for _ in range(8):
        costs = random_costs(rng, CHAIN, 2)
        low, high = costs.links[0].capacity_bps / 20, costs.links[0].capacity_bps * 20
        found = sweep(costs, Question("uint8", "relay"), 0, low, high)
        rates = np.geomspace(low, high, 60)
        every = []
        for k in range(7):
            at = [at_rate(costs, float(rate)) for rate in rates]
            plan = (0,) * k + (1,) * (6 - k)
            told = [its.tau_NM[np.arange(6), plan].sum() + its.epsilon_LM("uint8")[k, 0] for its in at]
            every.append(told)
        regrets = (np.array(every) - np.min(every, axis=0)).max(axis=1)
        assert found.regret_s == pytest.approx(regrets.min(), rel=1e-9, abs=1e-12)
        assert found.worst_case.latency_s(low) == pytest.approx(np.array(every)[:, 0].min())


def test_lines_of_the_worked_network_and_the_break_even_rate() -> None:
    costs = worked_costs()
    lines = rate_lines(costs, Question("uint8", "relay"))
    assert [line.cut for line in lines] == list(range(10))
    # Cut 0: everything on the SBS, 9.41 ms there and 0.8 ms for the logits; 150528 bytes on the first link.
    assert lines[0].fixed_s * 1e3 == pytest.approx(9.41 + 0.64 + 0.16) and lines[0].sent_bits == 8 * 150528
    # Cloud only: 30.1056 ms of other links and 4.17 ms. Cut 5 (140.4 on the UE, 4.11 on the SBS, 0.8 of
    # logits; 50176 bytes) beats it below 8 x (150528 - 50176) / (145.31 - 34.2756 ms) = 7.230335 Mbit/s,
    # others later.
    found = explain(costs, split(costs, Question("uint8", "relay")))
    assert found.break_even_bps == pytest.approx(8 * 100352 / 0.1110344, rel=1e-9)
    assert not found.pays and found.cloud_s * 1e3 == pytest.approx(82.444560)
    assert found.bottleneck[0].device == "ue" and found.bottleneck[0].target == "sbs"
    assert explain(costs, split(costs, Question("float32", "relay"))).pays


def test_what_would_meet_a_deadline() -> None:
    costs = worked_costs()
    asked = Question("uint8", "relay")
    found = explain(costs, split(costs, asked), deadline_s=0.05)
    factor = {change.what: change.factor for change in found.changes}
    # 48.16896 / x + 10.21 = 50 ms: x = 1.21055. The link behind the SBS carries 4000 bytes: no speed is
    # enough.
    assert factor["link ue -> sbs"] == pytest.approx(1.21055, rel=2e-4)
    assert factor["link sbs -> mbs"] is None and factor["device cloud"] is None
    faster = at_rate(costs, 25e6 * (factor["link ue -> sbs"] or 0))
    assert split(faster, asked).told.latency_s == pytest.approx(0.05, rel=2e-4)
    assert sum(seconds for _, _, seconds in found.units) >= 0.05837896 - 0.05
    met = explain(costs, split(costs, asked), deadline_s=0.06)
    assert met.changes == () and met.units == ()


def test_what_no_sweep_can_be() -> None:
    costs = worked_costs()
    assert parse_sweep("rate=1..200Mbit/s", costs) == (0, 1e6, 200e6)
    assert parse_sweep("rate:sbs=1..2Gbit/s", costs) == (1, 1e9, 2e9)
    for text, words in (
        (
            "speed=1..2Mbit/s",
            "cannot read --sweep 'speed=1..2Mbit/s': expected a range such as rate=1..200Mbit/s",
        ),
        ("rate=0..5Mbit/s", "goes from 0 to 5e.06 bit/s: expected 0 < low < high"),
        ("rate=5..5Mbit/s", "expected 0 < low < high"),
        ("rate:cloud=1..5Mbit/s", "no link behind 'cloud', expected one of ue, sbs, mbs"),
    ):
        with pytest.raises(InputError, match=words):
            parse_sweep(text, costs)
    graph = replace(costs, links=(*costs.links, Link("ue", "cloud", 1e6)))
    with pytest.raises(
        NetworkError, match="a sweep needs a chain of layers over two or more devices in line"
    ):
        rate_lines(graph, Question("uint8", "relay"))
