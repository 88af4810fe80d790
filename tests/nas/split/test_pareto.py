import itertools
from dataclasses import replace

import numpy as np
import pytest
from split_problems import mesh_problem, random_problem, with_calls

from jmsnas.errors import TopologyError
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.pareto import latency_throughput_front
from jmsnas.nas.split.timeline import compute_timeline
from jmsnas.topology import Link


def unbeaten(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (period, T) those that no other beats in both, rising periods."""
    kept: list[tuple[float, float]] = []
    for period_s, latency_s in sorted(points):
        if not kept or latency_s < kept[-1][1] * (1 - 1e-9):
            if kept and period_s <= kept[-1][0] * (1 + 1e-9):
                kept.pop()
            kept.append((period_s, latency_s))
    return kept


@pytest.mark.parametrize("fan_out", ["broadcast", "serial"])
def test_the_front_of_a_mesh_by_brute_force(fan_out: str) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        problem = with_calls(mesh_problem(rng, fan_out, 3), rng)
        every = [
            compute_timeline(
                problem, "uint8", (*(0,) * a, *(1,) * (3 - a), *way, *(5,) * b, *(6,) * (3 - b)), 6
            )
            for a in (1, 2)
            for b in (1, 2)
            # Branches of one, two and one layers.
            for x, y, z in itertools.permutations((2, 3, 4))
            for way in [(x, y, y, z)]
        ]
        found = latency_throughput_front(problem, SplitRequest("uint8", "strict"))
        wanted = unbeaten([(timeline.period_s, timeline.latency_s) for timeline in every])
        assert [p for p, _ in found] == pytest.approx([p for p, _ in wanted], rel=1e-9)
        assert [t for _, t in found] == pytest.approx([t for _, t in wanted], rel=1e-9)


def test_the_front_of_a_chain_ends_at_the_least_period_and_at_the_least_T() -> None:
    rng = np.random.default_rng(1)
    problem = with_calls(random_problem(rng, tuple((n,) for n in range(6)), 3), rng)
    problem = replace(problem, returns=True)
    for policy in ("strict", "relay", "stop-early"):
        found = latency_throughput_front(problem, SplitRequest("uint8", policy))
        least_s = split(problem, SplitRequest("uint8", policy, objective="throughput")).timeline.period_s
        assert found[0][0] == pytest.approx(least_s, rel=1e-9)
        assert found[-1][1] == pytest.approx(
            split(problem, SplitRequest("uint8", policy)).timeline.latency_s, rel=1e-9
        )
        assert [t for _, t in found] == sorted((t for _, t in found), reverse=True)
    graph = replace(problem, links=(*problem.links, Link("d0", "d2", 1e6)))
    with pytest.raises(TopologyError, match="expected a chain of layers on a chain of devices"):
        latency_throughput_front(graph, SplitRequest("uint8", "relay"))
