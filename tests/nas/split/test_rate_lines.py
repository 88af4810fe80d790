import itertools
from dataclasses import replace

import numpy as np
import pytest
from split_problems import mesh_costs, random_costs, worked_costs

from jmsnas.errors import TopologyError
from jmsnas.nas.split.explain import explain_split
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem import SplitProblem, with_link_rate
from jmsnas.nas.split.rate_lines import rate_lines
from jmsnas.topology import Link


def test_lines_of_the_worked_network_and_the_break_even_rate() -> None:
    costs = worked_costs()
    lines = rate_lines(costs, SplitRequest("uint8", "relay"), 0)
    assert [line.cut for line in lines] == list(range(10))
    # Cut 0: everything on the SBS, 9.41 ms there and 0.8 ms for the logits; 150528 bytes on the first link.
    assert lines[0].fixed_s * 1e3 == pytest.approx(9.41 + 0.64 + 0.16) and lines[0].sent_bits == 8 * 150528
    # Cloud only: 30.1056 ms of other links and 4.17 ms. Cut 5 (140.4 on the UE, 4.11 on the SBS, 0.8 of
    # logits; 50176 bytes) beats it below 8 x (150528 - 50176) / (145.31 - 34.2756 ms) = 7.230335 Mbit/s,
    # others later.
    found = explain_split(costs, split(costs, SplitRequest("uint8", "relay")))
    assert found.break_even_bps == pytest.approx(8 * 100352 / 0.1110344, rel=1e-9)
    assert not found.pays and found.cloud_s * 1e3 == pytest.approx(82.444560)
    assert found.bottleneck[0].device == "ue" and found.bottleneck[0].target == "sbs"
    assert explain_split(costs, split(costs, SplitRequest("float32", "relay"))).pays


@pytest.mark.parametrize("policy", ["relay", "stop-early"])
def test_the_way_back_is_part_of_the_line(policy: str) -> None:
    rng = np.random.default_rng(16)
    for link in (0, 1):
        costs = replace(random_costs(rng, tuple((n,) for n in range(5)), 3), returns=True)
        asked, rate = SplitRequest("uint8", policy), costs.links[link].capacity_bps
        lines = rate_lines(costs, asked, link)
        for bps in (rate / 7, rate, rate * 7):
            least = min(line.latency_s(bps) for line in lines)
            assert least == pytest.approx(
                split(with_link_rate(costs, bps, link), asked).timeline.latency_s, rel=1e-9
            )


def test_the_way_back_on_a_mesh() -> None:
    costs = replace(mesh_costs(np.random.default_rng(3), "broadcast"), returns=True)
    asked = SplitRequest("uint8", "relay")
    for bps in (2.0, 20.0, 200.0):
        least = min(line.latency_s(bps) for line in rate_lines(costs, asked, 0))
        assert least == pytest.approx(
            split(with_link_rate(costs, bps, 0), asked).timeline.latency_s, rel=1e-9
        )
    with pytest.raises(TopologyError, match="the result goes back over root -> a or beside it"):
        rate_lines(costs, asked, 1)


def test_break_even_on_a_mesh_is_where_cloud_only_takes_as_long() -> None:
    costs = mesh_costs(np.random.default_rng(25), "broadcast")
    asked = SplitRequest("uint8", "relay")
    rate = explain_split(costs, split(costs, asked)).break_even_bps
    assert rate is not None and 0 < rate < np.inf
    there = with_link_rate(costs, rate, 0)
    cloud_s = split(there, replace(asked, method="cloud")).timeline.latency_s
    assert split(there, replace(asked, min_layers=1)).timeline.latency_s == pytest.approx(cloud_s, rel=1e-9)


def test_what_no_sweep_can_be() -> None:
    costs = worked_costs()
    graph = replace(costs, links=(*costs.links, Link("ue", "cloud", 1e6)))
    with pytest.raises(TopologyError, match="a sweep needs a chain of layers over two or more devices"):
        rate_lines(graph, SplitRequest("uint8", "relay"), 0)
    with pytest.raises(TopologyError, match="all ways to give 2 branches to 230 children, more than 50000"):
        rate_lines(_wide(230), SplitRequest("uint8", "relay"), 2)


def _wide(children: int) -> SplitProblem:
    costs = mesh_costs(np.random.default_rng(0), "broadcast")
    assert costs.tree
    names = tuple(f"k{n}" for n in range(children))
    keep, more = [0, 1, 5, 6], [2] * children
    order = [0, 1, *more, 5, 6]
    devices = [costs.devices[m] for m in keep[:2]]
    devices += [replace(costs.devices[2], name=name) for name in names]
    devices += [costs.devices[m] for m in keep[2:]]
    links = [costs.links[0], costs.links[-1]]
    links += itertools.chain.from_iterable((Link("root", n, 1e3), Link(n, "behind", 1e3)) for n in names)
    taus = costs.tau_NM[:, order]
    return replace(
        costs, devices=tuple(devices), links=tuple(links), tau_NM=taus, low_NM=taus, high_NM=taus,
        tree=replace(costs.tree, children=names),
    )  # fmt: skip
