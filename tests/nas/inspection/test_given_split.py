import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_problems import mesh_problem, random_problem, worked_problem

from jmsnas.errors import InfeasibleError, InputError, TopologyError
from jmsnas.nas.inspection.given_split import evaluate_split, parse_cuts, parse_places
from jmsnas.nas.inspection.layer_list import list_layers
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem import SplitProblem

DIAMOND = ((0,), (1,), (1,), (2, 3), (4,))


def equation_1(problem: SplitProblem, cuts: list[int]) -> float:
    """T by hand, from the numbers that the list of layers shows."""
    rows, ends, total_s = list_layers(problem), [0, *cuts, problem.N], 0.0
    for m, name in enumerate(problem.names):
        total_s += sum(row.seconds[name] or 0.0 for row in rows[ends[m] : ends[m + 1]])
        if m + 1 < problem.M:
            sent = rows[ends[m + 1] - 1].output_bytes if ends[m + 1] else problem.input_bytes["uint8"]
            total_s += problem.links[m].delay_s + 8 * sent / problem.links[m].capacity_bps
    return total_s


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 7), st.integers(2, 4), st.sampled_from(["strict", "relay"]))
def test_any_cuts_cost_what_the_listed_numbers_add_up_to(seed: int, N: int, M: int, policy: str) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, tuple((n,) for n in range(N)), M)
    cuts = sorted(rng.integers(0, N + 1, M - 1).tolist())
    devices = parse_cuts(problem, ",".join(map(str, cuts)))
    found = evaluate_split(problem, SplitRequest("uint8", policy), devices)
    assert found.given.timeline.latency_s == pytest.approx(equation_1(problem, cuts), rel=1e-12)
    assert found.given.allowed == (policy == "relay" or set(devices) == set(range(M)))
    # The optimum is that of the asked policy where it allows the split, else that of relay.
    relay = policy == "relay" or not found.given.allowed
    every = [
        list(its)
        for its in itertools.combinations_with_replacement(range(N + 1), M - 1)
        if relay or len({0, *its, N}) == M + 1
    ]
    least_s = min(equation_1(problem, its) for its in every)
    assert found.best and found.best.timeline.latency_s == pytest.approx(least_s, rel=1e-12)
    assert found.best.request.policy == ("relay" if relay else "strict")
    assert found.gap == pytest.approx(found.given.timeline.latency_s / least_s - 1, abs=1e-9)
    assert found.gap is not None and found.gap >= -1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_given_layers_of_a_model_with_branches_and_of_a_mesh(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for problem in (
        random_problem(rng, DIAMOND, 3),
        mesh_problem(rng, "serial"),
        mesh_problem(rng, "broadcast"),
    ):
        best = split(problem, SplitRequest("uint8", "relay"))
        texts = [
            f"{name}={','.join(str(n) for n, m in enumerate(best.devices, 1) if problem.names[m] == name)}"
            for name in {problem.names[m] for m in best.devices}
        ]
        found = evaluate_split(problem, SplitRequest("uint8", "relay"), parse_places(problem, texts))
        assert found.given.devices == best.devices and found.given.allowed
        assert found.given.timeline == best.timeline and found.gap == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("4,7,8", (0, 0, 0, 0, 1, 1, 1, 2, 3)),
        (" 0, 9 ,9", (1,) * 9),
        ("9,9,9", (0,) * 9),
        ("0,0,0", (3,) * 9),
        ("2,2,5,9", (0, 0, 2, 2, 2, 3, 3, 3, 3)),
    ],
)
def test_cuts_as_text(text: str, devices: tuple[int, ...]) -> None:
    assert parse_cuts(worked_problem(), text) == devices


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "4,7",
        "4,7,8,8",
        "7,4,8",
        "4,7,10",
        "-1,4,7",
        "4,x,7",
        "4;7;8",
        "4.0,7,8",
        "4,7,99999999999999999",
        "٤,7,8",
        "4,,8",
    ],
)
def test_invalid_cuts(text: str) -> None:
    expected = (
        r"got --cuts .*expected the last layer of ue, sbs, mbs: 3 whole numbers from 0 to 9, none below"
    )
    with pytest.raises(InputError, match=expected):
        parse_cuts(worked_problem(), text)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["ue"], "got --place 'ue': expected DEVICE=LAYERS, as in --place ue=1-4,7"),
        (["ue=4-1", "cloud=5-9"], "got --place 'ue=4-1': expected DEVICE=LAYERS"),
        (["ue=one"], "got --place 'ue=one': expected DEVICE=LAYERS"),
        (["=1-9"], "got --place '=1-9': expected DEVICE=LAYERS"),
        (["moon=1-9"], "--place names the unknown device 'moon': expected ue, sbs, mbs, cloud"),
        (["ue=0-9"], "--place ue has layer 0: expected 1 to 9"),
        (["ue=1-999999999"], "--place ue has layer 10: expected 1 to 9"),
        (["ue=1-4", "cloud=4-9"], "--place gives layer 4 to ue and cloud: expected one device"),
        (["ue=1-2"], r"--place gives layers 3, 4, 5, 6, 7, ... to no device: expected every layer, 1 to 9"),
    ],
)
def test_invalid_places(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_places(worked_problem(), texts)


def test_what_a_given_split_cannot_be() -> None:
    problem, request = worked_problem(), SplitRequest("uint8", "relay")
    with pytest.raises(TopologyError, match="no route leads from cloud to ue: expected a link"):
        evaluate_split(problem, request, parse_places(problem, ["cloud=1-4", "ue=5-9"]))
    mesh = mesh_problem(np.random.default_rng(0), "serial")
    with pytest.raises(InputError, match=r"--cuts need a chain of devices.* as --place ue=1-9"):
        parse_cuts(mesh, "1,2,3,4,5,6")
    mesh.tau_NM[0, 0] = np.inf
    with pytest.raises(InfeasibleError, match="the given split puts u0 on ue, where no time of it is given"):
        evaluate_split(mesh, request, (0,) * mesh.N)


def test_what_a_given_split_violates() -> None:
    problem = worked_problem(power=True)
    small = replace(problem.devices[0], memory_bytes=2.5e6, energy_j=0.1, max_layers=3)
    busy = replace(problem.devices[3], min_layers=2)
    held = replace(problem, devices=(small, *problem.devices[1:3], busy))
    request = SplitRequest("uint8", "relay", min_layers=5, budget_j=0.2)
    found = evaluate_split(held, request, parse_cuts(held, "4,9,9"))
    assert found.given.violations[:4] == (
        "--min-layers 5 keeps layers 1 to 5 on ue",
        "ue runs 4 layers, its max_layers is 3",
        "ue needs 4 MB, its memory is 2.5 MB",
        # 4 W for 109.8 ms, 1 W while 100352 bytes are sent at 25 Mbit/s: 0.4392 + 0.032113 J.
        "ue uses 0.471313 J, its energy is 0.1 J",
    )
    assert found.given.violations[4] == "cloud runs 0 layers, its min_layers is 2"
    assert "--energy-limit is 0.2 J" in found.given.violations[5] and not found.given.allowed
    assert not evaluate_split(
        problem, SplitRequest("uint8", "relay"), parse_cuts(problem, "4,9,9")
    ).given.violations
