import json
from pathlib import Path

import pytest
from split_problems import worked_mesh_toml, worked_toml
from typer.testing import CliRunner

from jmsnas.cli import app

runner = CliRunner()


def run(*words: str) -> tuple[int, str, str]:
    result = runner.invoke(app, ["split", *words])
    return result.exit_code, result.stdout, result.stderr


def test_what_given_cuts_cost(tmp_path: Path) -> None:
    path = str(worked_toml(tmp_path / "worked.toml"))
    code, out, _ = run("--costs", path, "--cuts", "4,7,9", "--json")
    document = json.loads(out)
    (answer,), best = document["results"], document["comparison"]
    # Strict gives the cloud a layer: 4,7,9 is compared with the best split of relay, 58.378960 ms.
    assert code == 0 and answer["method"] == "given" and answer["cuts"] == [4, 7, 9, 9]
    assert not answer["allowed"] and best["policy"] == "relay" and best["cuts"] == [0, 9, 9, 9]
    assert best["gap"] == pytest.approx(answer["latency_s"] / 0.058378960 - 1, abs=1e-7) and best["proven"]
    assert [use["memory_bytes"] for use in answer["use"]] == [4e6, 3e6, 2e6, 0.0]
    code, out, _ = run("--costs", path, "--cuts", "4,7,9", "--explain", "--deadline", "50ms")
    assert code == 0 and "Not allowed: no layer on cloud, policy strict gives every device one." in out
    assert "The optimum of policy relay: 58.38 ms, sbs 9." in out and "The deadline of 50 ms is missed" in out
    code, out, _ = run("--costs", path, "--cuts", "4,7,8")
    assert "Allowed by policy strict" in out and "The given split is as good as the optimum." in out
    code, out, _ = run("--costs", path, "--policy", "relay", "--cuts", "4,7,8")
    # 155.249040 against 58.378960.
    assert "Of the given split, T is 96.87 ms (165.93%) above that of the optimum." in out


def test_listed_numbers_are_those_of_given_cuts(tmp_path: Path) -> None:
    for model in (("--costs", str(worked_toml(tmp_path / "worked.toml"))), ("mobilenet_v2", "--size", "64")):
        own = (*model, "--workspace", str(tmp_path), "--json")
        code, out, _ = run(*own, "--list")
        listed = json.loads(out)
        assert code == 0 and [row["number"] for row in listed["layers"]] == [
            *range(1, len(listed["layers"]) + 1)
        ]
        steps = json.loads(run(*own, "--cuts", "2,5,6", "--policy", "relay")[1])["results"][0]["steps"]
        for step in steps:
            rows = [row for row in listed["layers"] if row["number"] in step["units"]]
            if step["target"]:
                assert step["sent_bytes"] == rows[0]["output_bytes"]
            else:
                assert step["seconds"] == pytest.approx(sum(row["seconds"][step["device"]] for row in rows))
    # 3x3x3 weights at 32x32 pixels of 32 channels; the table of costs has no MACs.
    assert listed["layers"][0]["macs"] == 27 * 32 * 32 * 32
    code, out, _ = run("--costs", str(tmp_path / "worked.toml"), "--list")
    assert code == 0 and "layer  name     output B  MACs  weights B  peak B" in out.splitlines()[1]
    mesh = worked_mesh_toml(tmp_path / "mesh.toml")
    code, out, _ = run("--costs", str(mesh), "--list")
    assert code == 0 and "reads" in out and "   12  layer 8          7,9,11 " in out


def test_the_layers_of_each_device_of_a_mesh(tmp_path: Path) -> None:
    path = str(worked_mesh_toml(tmp_path / "mesh.toml"))
    places = ("ue=1-3", "sbs=4-5", "mbs1=6-7", "mbs2=8,9", "mbs3=10-11", "cloud=12-13")
    options = [word for place in places for word in ("--place", place)]
    code, out, _ = run("--costs", path, *options)
    assert code == 0 and "T = 194 ms" in out and "as good as the optimum" in out
    options[-3] = "mbs3=11"
    code, _, err = run("--costs", path, *options)
    assert code == 2 and "--place gives layers 10 to no device" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--cuts", "4,9"),
            "got --cuts 4,9: expected the last layer of ue, sbs, mbs: 3 whole numbers from 0 to 9",
        ),
        (("--cuts", "4,5,6", "--place", "ue=1"), "got --cuts and --place: expected one of them"),
        (("--cuts", "4,5,6", "--method", "all"), "got --cuts and --method: expected one of them"),
        (("--list", "--cuts", "4,5,6"), "--list prints the layers only: leave out --cuts"),
        (("--method", "given"), "unknown --method 'given': expected one of optimal, hivemind"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    code, out, err = run("--costs", str(worked_toml(tmp_path / "worked.toml")), *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1) and message in err


def test_a_policy_that_is_not_the_topologys_is_explained(tmp_path: Path) -> None:
    lines = (Path(worked_toml(tmp_path / "worked.toml"))).read_text().replace('policy = "strict"', "")
    branched = lines.replace('name = "layer 5"', 'name = "layer 5"\nafter = ["layer 3"]').replace(
        'name = "layer 6"', 'name = "layer 6"\nafter = ["layer 4", "layer 5"]'
    )
    (tmp_path / "branched.toml").write_text(branched)
    code, out, _ = run("--costs", str(tmp_path / "branched.toml"), "--topology", "chain")
    reason = "the topology's policy strict needs a chain of layers on a chain of devices, worked has branches"
    assert code == 0 and f"policy relay, as {reason}" in out
    code, out, _ = run("--costs", str(tmp_path / "branched.toml"), "--topology", "chain", "--json")
    assert json.loads(out)["policy_reason"] == reason
    code, _, err = run("--costs", str(tmp_path / "branched.toml"), "--policy", "strict")
    assert code == 2 and "policy strict gives every device a layer: expected a chain of layers" in err


CANDIDATES = """policy = "relay"
inputs = { uint8 = 3000 }
[[device]]
name = "phone"
[[device]]
name = "server"
[[link]]
from = "phone"
to = "server"
rate = "8Mbit/s"
[[layer]]
name = "stem"
bytes = 1000
tau = ["2ms", "0.2ms"]
[[layer]]
name = "body"
bytes = 100
[[layer.candidate]]
name = "small"
score = -1.5
tau = ["1ms", "0.3ms"]
[[layer.candidate]]
name = "large"
score = -0.5
tau = ["9ms", "0.9ms"]
"""


def test_candidates_are_chosen_within_t_const(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(CANDIDATES)
    # large: the input in 3 ms, 0.2 + 0.9 on the server, or 2 + 1 + 0.9: 3.9 ms; small: 2 + 1 + 0.1, 3.1 ms.
    for t_const, name, t_ms in (("3.95ms", "large", 3.9), ("3.5ms", "small", 3.1)):
        code, out, _ = run("--costs", str(path), "--t-const", t_const, "--json")
        document = json.loads(out)
        assert code == 0 and document["derivation"]["candidates"] == ["", name]
        assert document["derivation"]["proven"] and document["units"] == ["stem", f"body {name}"]
        assert document["results"][0]["latency_s"] * 1e3 == pytest.approx(t_ms)
        assert document["derivation"]["latency_s"] == pytest.approx(document["results"][0]["latency_s"])
    code, out, _ = run("--costs", str(path), "--t-const", "3.5ms", "--explain")
    assert (
        code == 0 and "Candidates of T <= 3.5 ms, by layer: 2 small\n  score -1.5, proven the highest" in out
    )
    code, out, _ = run("--costs", str(path), "--t-const", "3.5ms", "--list")
    assert code == 0 and "body small" in out
    for words, message in (
        ((), "layer body lists candidates: expected --t-const, as --t-const 80ms"),
        (("--t-const", "3ms"), "no choice of candidates of t has T <= 3 ms: the fastest takes 3.1 ms"),
        (("--t-const", "3"), "'3' is not a duration"),
        (
            ("--t-const", "3ms", "--cuts", "1"),
            "--t-const chooses candidates of --costs FILE by T: leave out --cuts",
        ),
        (("--t-const", "9ms", "--policy", "kind"), "unknown --policy 'kind'"),
    ):
        code, out, err = run("--costs", str(path), *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1) and message in err
    code, _, err = run("mobilenet_v2", "--t-const", "3ms", "--workspace", str(tmp_path))
    assert code == 2 and "by T: leave out a MODEL" in err


def test_a_given_split_where_no_best_split_can_be_computed(tmp_path: Path) -> None:
    """Limits of devices on links that are no chain: T, violations and the verdict, without an optimum."""
    text = CANDIDATES.split("[[layer]]")[0].replace('name = "phone"', 'name = "phone"\nmemory = "1MB"')
    text += '[[device]]\nname = "far"\n'
    for source in ("phone", "server"):
        text += f'[[link]]\nfrom = "{source}"\nto = "far"\nrate = "1Mbit/s"\n'
    text += '[[layer]]\nname = "a"\nbytes = 10\ntau = ["1ms", "1ms", "1ms"]\nweights = "2MB"\n'
    path = tmp_path / "graph.toml"
    path.write_text(text)
    code, out, _ = run("--costs", str(path), "--place", "server=1", "--explain")
    assert (
        code == 0 and "No best split to compare with: limits of devices (memory, energy, layers) need" in out
    )
    # 3000 B at 8 Mbit/s, 1 ms, 10 B at 1 Mbit/s; directly to `far` 24 ms, over the server 3 ms more.
    assert "Fastest with a uint8 input: 4.08 ms, server 1 (one device, no split), as given" in out
    assert "phone needs 2 MB, its memory is 1 MB" in out
    code, out, _ = run("--costs", str(path), "--place", "phone=1")
    assert code == 0 and "Not allowed: phone needs 2 MB, its memory is 1 MB." in out
