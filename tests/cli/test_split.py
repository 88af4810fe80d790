import json
from pathlib import Path

import pytest
from mesh_runs import write_mesh_run
from split_problems import worked_mesh_toml, worked_toml
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.workspace import Workspace

runner = CliRunner()


def run(*words: str) -> tuple[int, str, str]:
    result = runner.invoke(app, ["split", *words])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("encoding", "policy", "cuts", "t_ms"),
    [
        ("uint8", "strict", [4, 7, 8, 9], 155.249040),
        ("float32", "strict", [4, 7, 8, 9], 155.249040),
        ("uint8", "relay", [0, 9, 9, 9], 58.378960),
        ("float32", "relay", [4, 9, 9, 9], 148.262640),
    ],
)
def test_the_worked_numbers(tmp_path: Path, encoding: str, policy: str, cuts: list[int], t_ms: float) -> None:
    path = worked_toml(tmp_path / "worked.toml")
    code, out, _ = run("--costs", str(path), "--input", encoding, "--policy", policy, "--json")
    document = json.loads(out)
    (answer,) = document["results"]
    assert code == 0 and answer["cuts"] == cuts and answer["proven"]
    assert answer["latency_s"] * 1e3 == pytest.approx(t_ms, abs=5e-7)
    # The cloud baseline of each encoding stands beside it.
    assert document["cloud_only_s"]["uint8"] * 1e3 == pytest.approx(82.444560, abs=5e-7)
    assert document["cloud_only_s"]["float32"] * 1e3 == pytest.approx(317.268240, abs=5e-7)


# Equation (2) of Fig. 2(b): 82.3 + 96.337920 + 0.54 of C, then the slowest branch, 14.837480 (the second);
# serially the quickest is sent to last: 2.62 + 3 x 8.028160 + 1.4 + 1.1 + 0.25088 = 29.455360.
@pytest.mark.parametrize(("fan_out", "t_ms"), [("broadcast", 194.015400), ("serial", 208.633280)])
def test_the_worked_mesh(tmp_path: Path, fan_out: str, t_ms: float) -> None:
    path = str(worked_mesh_toml(tmp_path / "mesh.toml", fan_out))
    code, out, _ = run("--costs", path, "--json", "--explain", "--deadline", "150ms")
    document = json.loads(out)
    (answer,) = document["results"]
    assert code == 0 and answer["proven"] and answer["allowed"] and answer["cuts"] is None
    assert answer["latency_s"] * 1e3 == pytest.approx(t_ms, abs=5e-7)
    runs = [(step["device"], step["units"]) for step in answer["steps"] if not step["target"]]
    children = [("mbs1", [6, 7]), ("mbs2", [8, 9]), ("mbs3", [10, 11])]
    assert runs == [("ue", [1, 2, 3]), ("sbs", [4, 5]), *children, ("cloud", [12, 13])]
    # The terms of C and of the slowest branch add up to T.
    assert sum(step["seconds"] for step in answer["critical_path"]) == pytest.approx(
        answer["latency_s"], rel=1e-12
    )
    assert ("mbs1" if fan_out == "serial" else "mbs2") in {step["device"] for step in answer["critical_path"]}
    # The table has no times of the trunk on the cloud, nor of the tail on the UE.
    assert document["cloud_only_s"] == {} and document["explanation"]["cloud_s"] is None
    _, out, _ = run("--costs", path, "--method", "all", "--explain")
    branch = (
        "mbs1 2.5 ms + mbs1 -> cloud 250.9 us"
        if fan_out == "serial"
        else "sbs -> mbs2 8.028 ms + mbs2 3.813 ms"
    )
    assert branch in out and "+ cloud 540 us" in out
    assert "The last device cannot run all layers: there is no cloud only to compare with." in out
    assert "strict, relay, stop-early: with each branch on a child of the mesh" in out
    assert "is better with each branch on a child of the mesh." in run("--costs", path)[1]
    assert "-: cloud only: cloud cannot run layer 1" in out and "(a split), as relay, stop-early" in out
    assert "--method cloud puts layer 1 on cloud, where no time of it is given" in out


def test_a_mesh_run_on_its_own_topology(tmp_path: Path) -> None:
    folder = write_mesh_run(Workspace(tmp_path), "tree")
    result = json.loads((folder / "result.json").read_text())
    code, out, err = run("tree", "--explain", "--json", "--workspace", str(tmp_path))
    document = json.loads(out)
    (answer,) = document["results"]
    assert code == 0 and "SIMULATED: pi4" in err and document["policy"] == "strict"
    # The same rooflines, the same equation: the split is the search's own.
    assert answer["latency_s"] == pytest.approx(result["derived"]["latency_s"], rel=1e-9) and answer["proven"]
    for term in result["derived"]["terms"]:
        own = [n for n, device in enumerate(answer["devices"], 1) if device == term["device"]]
        assert own == term["layers"]
    assert document["cloud_only_s"]["uint8"] == pytest.approx(result["cloud_only"]["latency_s"], rel=1e-9)
    told = ("tree", "--sweep", "rate:laptop:mbs1=1..200Mbit/s", "--pictures", str(tmp_path / "drawn"))
    code, out, err = run(*told, "--workspace", str(tmp_path))
    assert code == 0 and "Best splits by the rate of laptop -> mbs1:" in out and "Minimax regret: pi4" in out
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        f"tree-{name}.png" for name in ("branch-rates", "cuts", "inputs", "rates", "throughput")
    ]
    # Over a chain it is a network with branches, cut anywhere.
    code, out, _ = run("tree", "--topology", "chain", "--json", "--workspace", str(tmp_path))
    assert code == 0 and json.loads(out)["policy"] == "relay"


def test_printed_text(tmp_path: Path) -> None:
    path = worked_toml(tmp_path / "worked.toml")
    options = ("--policy", "relay", "--method", "all", "--explain", "--deadline", "50ms")
    code, out, _ = run("--costs", str(path), *options, "--sweep", "rate=1..200Mbit/s")
    assert code == 0
    for words in (
        "optimal           58.38 ms      48.17 ms  sbs 9  proven",
        "Cloud only, by input: uint8 82.44 ms, float32 317.3 ms",
        "at best (ue 4, sbs 5): more than cloud only with a uint8 input, 82.44 ms.",
        "It takes less than cloud only below 7.23 Mbit/s",
        "  relay           58.38 ms    148.3 ms",
        "Fastest with a uint8 input: 57.58 ms, sbs 9 (one device, no split), as stop-early",
        "relay takes 800 us (1.39%) more, cloud only takes 24.87 ms (43.19%) more",
        "Fastest with a float32 input: 147.5 ms, ue 4, sbs 5 (a split), as stop-early",
        "link ue -> sbs: 1.21 times as fast",
        "from   5.942 Mbit/s: 212.9 ms there, sbs 9",
        "Minimax regret: ue 7, sbs 2",
    ):
        assert words in out
    code, out, _ = run("--costs", str(path), "--method", "all")
    allowed, _, others = out.partition("Not allowed by policy strict or the limits, so not comparable")
    assert code == 0 and "sbs 3, mbs 1, cloud 1  proven optimum of policy strict" in allowed
    assert (
        "hivemind" not in allowed
        and "no layer on ue, mbs, cloud, policy strict gives every device one" in others
    )
    assert "sbs 9  (optimum of policy relay)" in others
    back = worked_toml(tmp_path / "back.toml", "return = true")
    _, out, _ = run("--costs", str(back), "--policy", "relay", "--explain")
    # 4000 bytes back over 200, 50 and 25 Mbit/s: 0.16 + 0.64 + 1.28 = 2.08 ms beside 58.37896.
    assert "sbs -> ue: output 9, 4000 B, 1.28 ms, return path" in out and "T = 60.46 ms" in out
    code, out, _ = run("--costs", str(path))
    assert "ue -> sbs: output 4, 100352 B, 32.11 ms" in out and "Proven optimal: no split" in out


def test_a_mobilenet_over_simulated_devices(tmp_path: Path) -> None:
    folder = str(tmp_path)
    options = ("--policy", "relay", "--size", "64", "--workspace", folder)
    code, out, err = run("mobilenet_v3_small", *options, "--pictures", folder, "--json")
    document = json.loads(out)
    assert code == 0 and all(device["simulated"] for device in document["devices"])
    assert "SIMULATED: pi4 was not measured" in err and "jpeg" in document["cloud_only_s"]
    assert document["results"][0]["latency_s"] <= document["cloud_only_s"]["uint8"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        f"mobilenet_v3_small-{name}.png" for name in ("cuts", "inputs", "rates", "throughput")
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected a MODEL or --costs FILE, one of them"),
        (
            ("--costs", "x.toml", "--size", "64"),
            "--size, --width and --image belong to a MODEL: leave them out",
        ),
        (("resnet5O",), "unknown model 'resnet5O': nearest are resnet50"),
        (("mobilenet_v2", "--policy", "kind"), "unknown --policy 'kind'"),
        (
            ("mobilenet_v2", "--policy", "strict", "--min-layers", "17"),
            "policy strict gives each of 4 devices",
        ),
        (("mobilenet_v2", "--size", "0"), "got --size 0: expected 1 to 4096"),
        (("resnet18", "--width", "2"), "--width belongs to mobilenet_v1"),
        (("mobilenet_v2", "--input", "png"), "size of a raw input as png is not known"),
        (("mobilenet_v2", "--topology", "ring"), "unknown topology 'ring'"),
        (("mobilenet_v2", "--topology", "desk"), "mobilenet_v2 has not been measured on local"),
        (("mobilenet_v2", "--sweep", "rate=0..5Mbit/s"), "expected 0 < low < high"),
        (
            ("mobilenet_v2", "--topology", "mesh", "--sweep", "rate=1..5Mbit/s"),
            "a sweep needs a chain of layers on a chain of two devices or more, or a model with a branch",
        ),
        (("mobilenet_v2", "--image", "/nowhere.jpg"), "cannot read the image /nowhere.jpg"),
        (("missing.onnx",), "cannot read missing.onnx: No such file"),
        (("./none",), "none holds no finished run"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    code, out, err = run(*words, "--workspace", str(tmp_path))
    refused = [line for line in err.splitlines() if not line.startswith("SIMULATED")]
    assert (code, out, len(refused)) == (2, "", 1) and message in refused[0]
