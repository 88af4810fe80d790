import itertools

import numpy as np
import pytest

from jmsnas.arrays import FloatArray
from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.nas.split.links import LinkArrays, link_arrays, refuse_unreachable
from jmsnas.nas.split.solve_chain import solve_chain
from jmsnas.nas.split.solve_device_graph import GraphSplit, solve_device_graph
from jmsnas.topology import Link


def random_links(rng: np.random.Generator, M: int) -> LinkArrays:
    there = rng.random((M, M)) < rng.uniform(0.2, 1)
    np.fill_diagonal(there, True)
    delay_MM = np.where(there, rng.choice([0.0, 0.01, 1.0]) * rng.uniform(0, 1, (M, M)), np.inf)
    per_byte_MM = np.where(there, rng.uniform(0.1, 1, (M, M)), np.inf)
    np.fill_diagonal(delay_MM, 0)
    np.fill_diagonal(per_byte_MM, 0)
    return LinkArrays(delay_MM, per_byte_MM, 0.5 * per_byte_MM)


def fastest_ways(links: LinkArrays, sent: float, raw: bool) -> FloatArray:
    """Floyd's three loops, on what is sent."""
    per_byte_MM = links.input_per_byte_MM if raw else links.per_byte_MM
    ways_MM = np.where(np.isinf(links.delay_MM), np.inf, links.delay_MM + sent * per_byte_MM)
    for k in range(links.M):
        ways_MM = np.minimum(ways_MM, ways_MM[:, k : k + 1] + ways_MM[k : k + 1])
    return ways_MM


def latency_of(
    split: GraphSplit, tau_NM: FloatArray, sent_bytes_L: FloatArray, links: LinkArrays, call_M: FloatArray
) -> float:
    total = sum(float(tau_NM[n, m]) for n, m in enumerate(split.devices))
    for one, after in itertools.pairwise((None, *split.devices)):
        total += call_M[after] if after != one else 0.0
    for n, way in enumerate(split.routes):
        per_byte_MM = links.input_per_byte_MM if n == 0 else links.per_byte_MM
        total += sum(
            links.delay_MM[hop] + sent_bytes_L[n] * per_byte_MM[hop] for hop in itertools.pairwise(way)
        )
    return float(total)


def test_brute_force_agrees() -> None:
    rng = np.random.default_rng(2)
    unreachable = 0
    for case in range(2000):
        N, M = int(rng.integers(1, 5)), int(rng.integers(1, 5))
        links = random_links(rng, M)
        tau_NM = rng.uniform(0.1, 1, (N, M)) * rng.uniform(0.1, 1, M)
        tau_NM[rng.random((N, M)) < 0.1] = np.inf
        sent_bytes_L = 10 ** rng.uniform(-2, 1) * rng.uniform(0, 1, N + 1)
        target = None if case % 2 else int(rng.integers(M))
        plans_KN = np.array(list(itertools.product(range(M), repeat=N)))
        call_M = rng.choice([0.0, 0.1, 1.0]) * rng.uniform(0, 1, M)
        totals_K = tau_NM[np.arange(N), plans_KN].sum(axis=1) + call_M[plans_KN[:, 0]]
        totals_K += (call_M[plans_KN[:, 1:]] * (plans_KN[:, 1:] != plans_KN[:, :-1])).sum(axis=1)
        places_KL = np.hstack([np.zeros((len(plans_KN), 1), dtype=int), plans_KN])
        for n in range(N):
            totals_K += fastest_ways(links, sent_bytes_L[n], n == 0)[places_KL[:, n], places_KL[:, n + 1]]
        if target is not None:
            totals_K += fastest_ways(links, sent_bytes_L[N], False)[plans_KN[:, -1], target]
        if not np.isfinite(totals_K.min()):
            unreachable += 1
            with pytest.raises(
                InfeasibleError, match=f"no split of {N} layers over {M} devices: no route leads"
            ):
                solve_device_graph(tau_NM, sent_bytes_L, links, target=target)
            continue
        found = solve_device_graph(tau_NM, sent_bytes_L, links, target=target, call_M=call_M)
        assert found.latency_s == pytest.approx(totals_K.min(), rel=1e-9)
        own_s = latency_of(found, tau_NM, sent_bytes_L, links, call_M)
        assert own_s == pytest.approx(found.latency_s, rel=1e-9)
        assert [way[-1] for way in found.routes[:-1]] == list(found.devices)
        assert [way[0] for way in found.routes] == [0, *found.devices]
    assert unreachable < 500


def test_many_devices_with_delays_agree_with_dense_steps() -> None:
    # More devices than the guess looks at, and delays that make the fastest way depend on the size.
    rng = np.random.default_rng(3)
    for _ in range(20):
        N, M = 12, 30
        links = random_links(rng, M)
        tau_NM = rng.uniform(0.1, 1, (N, M))
        sent_bytes_L = rng.uniform(0, 1, N + 1)
        done_M = fastest_ways(links, sent_bytes_L[0], True)[0] + tau_NM[0]
        for n in range(1, N):
            ways_MM = fastest_ways(links, sent_bytes_L[n], False)
            done_M = (done_M[:, None] + ways_MM).min(axis=0) + tau_NM[n]
        assert solve_device_graph(tau_NM, sent_bytes_L, links).latency_s == pytest.approx(
            done_M.min(), rel=1e-9
        )


def test_a_chain_is_a_graph() -> None:
    rng = np.random.default_rng(4)
    names = ("a", "b", "c", "d")
    hops = [Link(s, t, r) for s, t, r in zip(names, names[1:], (25e6, 50e6, 200e6), strict=False)]
    links = link_arrays(names, hops)
    tau_NM, sent_bytes_L = rng.uniform(0.01, 0.1, (6, 4)), rng.uniform(1e4, 1e6, 7)
    epsilon_LM = np.zeros((7, 4))
    for m, hop in enumerate(hops):
        epsilon_LM[:, m] = [hop.epsilon_s(size) for size in sent_bytes_L]
    relay_s, placement = solve_chain(tau_NM, epsilon_LM, "relay")
    found = solve_device_graph(tau_NM, sent_bytes_L, links, target=3)
    assert found.latency_s == pytest.approx(relay_s, rel=1e-9) and found.devices == placement.devices
    early_s, _ = solve_chain(tau_NM, epsilon_LM, "stop-early")
    assert solve_device_graph(tau_NM, sent_bytes_L, links).latency_s == pytest.approx(early_s, rel=1e-9)


def test_wire_formats_and_what_no_graph_can_be() -> None:
    links = link_arrays(("a", "b"), [Link("a", "b", 8e6, 1e-3, "float16")])
    # 1000 bytes as float32 are 500 on this wire: 1 ms + 0.5 ms; the raw input goes as it is: 1 + 1 ms.
    assert links.epsilon_MM(1000)[0, 1] == pytest.approx(1.5e-3)
    assert links.epsilon_MM(1000, raw_input=True)[0, 1] == pytest.approx(2e-3)
    assert np.isinf(links.epsilon_MM(1000)[1, 0])
    with pytest.raises(TopologyError, match="no route leads from a to c, d. Add the missing"):
        refuse_unreachable(link_arrays(("a", "b", "c", "d"), [Link("a", "b", 1e6)]), ("a", "b", "c", "d"))
    refuse_unreachable(links, ("a", "b"))
    with pytest.raises(TopologyError, match="link a -> z names the unknown device z: expected one of a, b"):
        link_arrays(("a", "b"), [Link("a", "z", 1e6)])
    with pytest.raises(TopologyError, match="two links a -> b: expected one"):
        link_arrays(("a", "b"), [Link("a", "b", 1e6), Link("a", "b", 2e6)])
