import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmsnas.errors import InfeasibleError, InputError
from jmsnas.nas.derivation.candidate_costs import read_candidates
from jmsnas.nas.derivation.derive_costs import derive_from_costs
from jmsnas.nas.split.methods import SplitRequest, split


def random_table(seed: int, limits: bool = False, returns: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    N, M = int(rng.integers(2, 6)), int(rng.integers(1, 4))
    devices: list[dict[str, Any]] = [{"name": f"d{m}"} for m in range(M)]
    if limits:
        for device in devices:
            device["memory"] = f"{rng.integers(20, 60)}B"
        devices[0] |= {"power": "1W", "send_power": "1W", "energy": f"{rng.integers(1, 9)}J"}
    for device in () if seed % 2 else devices:
        device["call"] = f"{rng.integers(0, 2000)}ms"
    layers = []
    for n in range(N):
        own = [
            {
                "name": f"c{r}",
                "score": float(rng.choice([rng.normal(), round(rng.normal())]) * 10.0 ** rng.integers(-4, 3)),
                "tau": [f"{x}ms" for x in rng.integers(1, 2000, M)],
                "weights": int(rng.integers(1, 20)),
                "peak": int(rng.integers(0, 5)),
            }
            for r in range(rng.integers(1, 4))
        ]
        layer: dict[str, Any] = {"name": f"l{n}", "bytes": int(rng.integers(1, 1000))}
        layers.append(layer | ({"candidate": own} if n else {"tau": own[0]["tau"]}))
    link = [{"from": f"d{m}", "to": f"d{m + 1}", "rate": "8kbit/s"} for m in range(M - 1)]
    return {"inputs": {"uint8": 300}, "device": devices, "link": link, "layer": layers, "return": returns}


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from(["strict", "relay", "stop-early"]), st.booleans(), st.booleans()
)
def test_the_highest_score_within_t_const_by_brute_force(
    tmp_path_factory: pytest.TempPathFactory, seed: int, policy: str, limits: bool, returns: bool
) -> None:
    path = tmp_path_factory.mktemp("costs") / "t.json"
    path.write_text(json.dumps(random_table(seed, limits, returns)))
    costs, _ = read_candidates(path)
    every: dict[tuple[int, ...], float] = {}
    for indices in itertools.product(*(range(len(own)) for own in costs.names)):
        try:
            found = split(costs.chosen(indices), SplitRequest("uint8", policy))
        except InfeasibleError:
            continue
        every[indices] = found.timeline.latency_s
    rows = np.arange(costs.problem.N)
    times = sorted(every.values())
    for t_const_s in {times[0], times[len(times) // 2], times[-1] * 1.5} if times else set[float]():
        scores = [
            costs.score_NR[rows, list(k)].sum() for k, t_s in every.items() if t_s <= t_const_s * (1 + 1e-12)
        ]
        derived = derive_from_costs(costs, t_const_s, "uint8", policy)
        tiny = 1e-8 * max(float(np.ptp(costs.score_NR, axis=1).max()), 1e-300)
        assert derived.score == pytest.approx(max(scores), rel=1e-9, abs=tiny)
        assert derived.latency_s == pytest.approx(every[derived.indices], rel=1e-9)
        assert every[derived.indices] <= t_const_s * (1 + 1e-9) and derived.bound >= max(scores) - tiny
        assert limits or derived.proven
    for below_s in (times[0] * (1 - 1e-6) if times else 1e3, 0.0):
        with pytest.raises(InfeasibleError, match="no choice of candidates of t has T <= |no split of"):
            derive_from_costs(costs, below_s, "uint8", policy)


def test_candidates_in_toml_json_and_csv_are_the_same(tmp_path: Path) -> None:
    rows = [("small", -1.5, "4ms", "1ms"), ("large", -0.25, "12ms", "2ms")]
    link = {"from": "a", "to": "b", "rate": "8Mbit/s"}
    candidates = [{"name": k, "score": s, "tau": [x, y], "weights": "1kB"} for k, s, x, y in rows]
    layers = [
        {"name": "stem", "bytes": 100, "tau": ["1ms", "1ms"]},
        {"name": "body", "bytes": 50, "candidate": candidates},
    ]
    devices = [{"name": "a"}, {"name": "b"}]
    whole = {"inputs": {"uint8": 1000}, "device": devices, "link": [link], "layer": layers, "policy": "relay"}
    (tmp_path / "t.json").write_text(json.dumps(whole))
    toml = [
        'policy = "relay"',
        "inputs = { uint8 = 1000 }",
        "[[device]]",
        'name = "a"',
        "[[device]]",
        'name = "b"',
    ]
    toml += ["[[link]]", 'from = "a"', 'to = "b"', 'rate = "8Mbit/s"']
    toml += [
        "[[layer]]",
        'name = "stem"',
        "bytes = 100",
        'tau = ["1ms", "1ms"]',
        "[[layer]]",
        'name = "body"',
        "bytes = 50",
    ]
    for k, s, x, y in rows:
        toml += [
            "[[layer.candidate]]",
            f'name = "{k}"',
            f"score = {s}",
            f'tau = ["{x}", "{y}"]',
            'weights = "1kB"',
        ]
    (tmp_path / "t.toml").write_text("\n".join(toml))
    csv = ["layer,candidate,score,bytes,weights,a,b", "input:uint8,,,1000,,,", "stem,,,100,,1ms,1ms"]
    csv += [f"body,{k},{s},50,1kB,{x},{y}" for k, s, x, y in rows]
    (tmp_path / "t.csv").write_text("\n".join(csv))
    (tmp_path / "n.toml").write_text("\n".join(toml[2:10]))
    from jmsnas.nas.split.general_topology import load_general_topology

    topology = load_general_topology(str(tmp_path / "n.toml"))
    for name in ("t.json", "t.toml", "t.csv"):
        costs, _ = read_candidates(tmp_path / name, topology)
        # stem on a, 100 B in 0.1 ms, body on b: 1 + 0.1 + 2; or all on a and 50 B: 1 + 4 + 0.05.
        large = derive_from_costs(costs, 3.2e-3, "uint8", "strict")
        assert (large.names, large.score, large.proven) == (("", "large"), -0.25, True)
        assert large.latency_s == pytest.approx(3.1e-3) and large.problem.units == ("stem", "body large")
        small = derive_from_costs(costs, 2.5e-3, "uint8", "strict")
        assert (small.names, small.score) == (("", "small"), -1.5) and small.problem.weight_bytes_N[1] == 1000
        with pytest.raises(
            InfeasibleError, match="no choice of candidates .* T <= 2 ms: the fastest takes 2.1 ms"
        ):
            derive_from_costs(costs, 2e-3, "uint8", "strict")


def test_score_scales_do_not_matter(tmp_path: Path) -> None:
    table = random_table(3)
    for factor in (1e-9, 1.0, 1e12):
        for layer in table["layer"]:
            for own in layer.get("candidate", ()):
                own["score"] = own["score"] / np.abs(own["score"]) * factor * (1 + int(own["name"][1:]))
        (tmp_path / "t.json").write_text(json.dumps(table))
        costs, _ = read_candidates(tmp_path / "t.json")
        best = derive_from_costs(costs, 1e3, "uint8", "relay")
        assert best.score == pytest.approx(costs.score_NR.max(axis=1).sum(), rel=1e-12) and best.proven


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": ["1ms", "1ms"]}, "layer l has candidates, and tau, weights or peak of its own"),
        ({"candidate": [{"name": "a", "score": 1.0, "tau": ["1ms", "1ms"]}] * 2}, "names a candidate twice"),
        ({"candidate": [{"name": "a", "tau": ["1ms", "1ms"]}]}, "missing required field `score`"),
        (
            {"candidate": [{"name": "a", "score": 1.0, "tau": ["1ms"]}]},
            "layer l has 1 times, expected one for each",
        ),
        ({"candidate": []}, r"layer l has no times: expected tau, or \[\[layer.candidate\]\]"),
        ({"after": ["input"], "name": "k"}, "--t-const chooses candidates for a chain of layers"),
    ],
)
def test_invalid_candidates(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    layer = {"name": "l", "bytes": 1, "candidate": [{"name": "a", "score": 1.0, "tau": ["1ms", "1ms"]}]}
    first = {"name": "first", "bytes": 1, "tau": ["1ms", "1ms"]}
    last = {
        "name": "last",
        "bytes": 1,
        "tau": ["1ms", "1ms"],
        "after": ["first", "k" if "after" in change else "l"],
    }
    link = [{"from": "x", "to": "y", "rate": "1Mbit/s"}]
    layers = [first, layer | change, *([last] if "after" in change else [])]
    whole = {"inputs": {"uint8": 1}, "device": [{"name": "x"}, {"name": "y"}], "link": link, "layer": layers}
    (tmp_path / "t.json").write_text(json.dumps(whole))
    with pytest.raises(InputError, match=message):
        derive_from_costs(read_candidates(tmp_path / "t.json")[0], 1.0, "uint8", "relay")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,c,nan,1,1ms"], "candidate c of a has no finite score"),
        (["a,c,high,1,1ms"], "candidate c has score 'high': expected a number"),
        (["a,c,1,1,1ms", "a,d,1,2,1ms"], "candidates of a differ in bytes or after"),
        (
            ["a,c,1,1,1ms", "b,c,1,1,1ms", "a,d,1,1,1ms"],
            "two layers a: expected all candidates of a layer together",
        ),
    ],
)
def test_invalid_candidates_in_csv(tmp_path: Path, rows: list[str], message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["layer,candidate,score,bytes,x", "input:uint8,,,1,", *rows]))
    with pytest.raises(InputError, match=message):
        read_candidates(path)
