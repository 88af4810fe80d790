import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from deployments import CHAIN, fleet, write_devices
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.cli.output.deploy import print_deployment
from jmsnas.deploy.leader.deadline import JudgedDeadline, PathSums, Percentiles
from jmsnas.deploy.leader.latency_spread import read_spread
from jmsnas.deploy.transport.devices_file import read_devices_file
from jmsnas.deploy.transport.identity import fingerprint
from jmsnas.nas.run_result import RunResult
from jmsnas.report.run_page import write_report
from jmsnas.workspace import Workspace

RUNNER = CliRunner()


def test_certs_prints_the_fingerprint_of_a_device_without_address(tmp_path: Path) -> None:
    words = ["certs", "--device", "pi4", "--workspace", str(tmp_path)]
    done = RUNNER.invoke(app, words)
    assert done.exit_code == 0 and "pi4: fingerprint " in done.stdout
    assert "jmsnas-agent --certs pi4 --listen 0.0.0.0:7070" in done.stdout
    again = RUNNER.invoke(app, [*words, "--json"])
    document = json.loads(again.stdout)
    assert document["fingerprints"]["pi4"] in done.stdout  # the key is kept
    wrong = RUNNER.invoke(app, ["certs", "--device", "../x", "--workspace", str(tmp_path)])
    assert wrong.exit_code == 2 and "must be 1 to 64 of a-z" in wrong.stderr


def test_certs_writes_addresses_into_devices_toml(tmp_path: Path) -> None:
    words = ["certs", "--workspace", str(tmp_path), "--address"]
    RUNNER.invoke(app, [*words, "pi4=10.0.0.1:7070", "--address", "jetson-cpu=[fe80::1]:7071"])
    done = RUNNER.invoke(app, [*words, "pi4=board.local:7072"])
    assert done.exit_code == 0 and "jmsnas-agent --certs pi4 --listen board.local:7072" in done.stdout
    agents = read_devices_file(tmp_path / "devices.toml")
    assert {name: agent.address for name, agent in agents.items()} == {
        "pi4": "board.local:7072",
        "jetson-cpu": "[fe80::1]:7071",
    }
    for name, agent in agents.items():
        assert agent.fingerprint == fingerprint((tmp_path / "certs" / name / "device.pem").read_bytes())


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--address", "pi4"], "expected NAME=HOST:PORT"),
        (["--address", "pi4="], "expected NAME=HOST:PORT"),
        (["--address", "pi4=10.0.0.1"], "expected HOST:PORT"),
        (["--address", "pi4=10.0.0.1:99999"], "expected HOST:PORT"),
        (["--address", 'pi4=a"b:7070'], "expected HOST:PORT"),
        (["--address", "pi4=a\nb:7070"], "expected HOST:PORT"),
        (["--address", "../x=a:7070"], "must be 1 to 64 of a-z"),
        (["--address", "pi4=a:1", "--address", "pi4=b:1"], "has pi4 twice"),
        ([], "expected --address NAME=HOST:PORT or --device NAME"),
    ],
)
def test_certs_refuses_an_address_before_it_writes(tmp_path: Path, words: list[str], error: str) -> None:
    done = RUNNER.invoke(app, ["certs", *words, "--workspace", str(tmp_path)])
    assert done.exit_code == 2 and error in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_certs_keeps_a_damaged_devices_toml(tmp_path: Path) -> None:
    (tmp_path / "devices.toml").write_text("damaged")
    done = RUNNER.invoke(app, ["certs", "--address", "pi4=a:1", "--workspace", str(tmp_path)])
    assert done.exit_code == 2 and "is not a TOML file" in done.stderr
    assert (tmp_path / "devices.toml").read_text() == "damaged" and not (tmp_path / "certs").exists()


def test_an_agent_without_certificates(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["agent", "--certs", str(tmp_path)])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert "jmsnas certs --device NAME" in done.stderr


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["deploy", "nothing", "--workspace", str(tmp_path)])
    assert done.exit_code == 2 and "holds no finished run" in done.stderr
    done = RUNNER.invoke(app, ["deploy", "nothing", "--cuts", "3,2", "--workspace", str(tmp_path)])
    assert done.exit_code == 2 and "non-decreasing whole numbers" in done.stderr


@pytest.mark.parametrize("topology", [None, "mesh", "desk"])
def test_a_device_without_agent_is_refused_before_torch_is_imported(
    tmp_path: Path, run: Path, topology: str | None
) -> None:
    words = [
        "deploy",
        str(run),
        "--workspace",
        str(tmp_path),
        *(["--topology", topology] if topology else []),
    ]
    script = (
        "import sys\nfrom jmsnas.cli import app\n"
        "try:\n    app(sys.argv[1:])\nfinally:\n    print([*{'torch', 'onnx'} & {*sys.modules}])"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == "[]\n" and done.stderr.count("\n") == 1
    assert "devices.toml has no agent of " in done.stderr


def test_the_deadline_is_checked_on_real_agents(
    short_run: tuple[Workspace, RunResult], tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    shutil.copytree(short_run[0].folder, workspace.folder)
    path = workspace.run("short") / "result.json"
    result = json.loads(path.read_text())

    def deploy(t_const_s: float, *words: str) -> Result:
        path.write_text(json.dumps(result | {"target": result["target"] | {"t_const_s": t_const_s}}))
        asked = ["deploy", "short", "--requests", "20", "--workspace", str(workspace.folder), *words]
        return RUNNER.invoke(app, asked)

    with fleet(workspace.folder, CHAIN) as four:
        write_devices(workspace, four)
        missed = deploy(1e-7, "--check-deadline", "--json")
        met = deploy(100.0, "--check-deadline")
    spread = read_spread(workspace, "chain")
    assert spread is not None and spread.requests == 20 and not spread.loopback
    assert missed.exit_code == 1
    assert "jmsnas: Deadline MISSED: p50 of T is " in missed.stderr
    assert "above T_const = 0.1 us" in missed.stderr
    document = json.loads(missed.stdout)
    deadline, sums = document["deadline"], document["deadline"]["sums"]
    assert list(document)[:2] == ["schema_version", "deadline"] and deadline["met"] is False
    assert deadline["promised_s"] == result["derived"]["latency_s"] and deadline["t_const_s"] == 1e-7
    assert deadline["judged_s"] == deadline["latency"]["p50"] == document["latency"]["p50"]
    assert deadline["round_trip"] == document["round_trip"]
    total_s = sums["compute_s"] + sums["send_s"] + sums["wait_s"] + deadline["rest_s"]
    assert total_s == pytest.approx(deadline["latency"]["p50"], rel=1e-9)
    assert met.exit_code == 0, met.stderr
    assert met.stdout.startswith("Deadline met: p50 of T is ") and "below T_const = 100 s" in met.stdout
    page = write_report(workspace, workspace.run("short")).read_text()
    assert page.index("<b>Deadline met: p50 of T is ") < page.index('<ul class="key">')
    assert '"met": true' in page


def test_emulated_terms_have_no_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    term = {"low_s": 1e-3, "high_s": 2e-3, "measured_s": 1e-3, "predicted_s": 1e-3}
    print_deployment(
        {
            "run": "r",
            "topology": "chain",
            "loopback": True,
            "epoch": 3,
            "pieces": [
                {"device": "pi4", "layers": "1-9", "runtime": "torch on cuda"},
                {"device": "cloud", "layers": "", "runtime": "onnxruntime"},
            ],
            "lost": ["laptop"],
            "answered": [{"epoch": 2, "requests": 7}, {"epoch": 3, "requests": 90}],
            "repeated": 1,
            "terms": [
                {**term, "kind": "compute", "where": "pi4", "held": True, "ratio": None},
                {**term, "kind": "send", "where": "pi4 -> cloud", "held": False, "ratio": 1.25},
                {**term, "kind": "wait", "where": "pi4", "predicted_s": None, "held": False, "ratio": None},
            ],
            "latency": {"predicted_s": 2e-3, "measured_s": 2e-3, "ratio": None, "held": True}
            | dict.fromkeys(("p50", "p95", "p99"), 2e-3),
            "round_trip": dict.fromkeys(("p50", "p95", "p99"), 3e-3),
            "pipelined": {"per_s": 100.0, "predicted_per_s": 120.0, "bound_by": "compute on pi4"},
            "accuracy": {"divided": 0.9, "undivided": 0.9, "equal": True, "largest_difference": 1e-6},
            "simulated": ["pi4"],
            "published": ["cloud"],
        },
        JudgedDeadline(
            t_const_s=3e-3,
            promised_s=1.5e-3,
            percentile=50,
            judged_s=2e-3,
            met=True,
            latency=Percentiles(2e-3, 2e-3, 2e-3),
            round_trip=Percentiles(3e-3, 3e-3, 3e-3),
            sums=PathSums(1e-3, 8e-4, 1e-4),
            rest_s=1e-4,
            emulated=True,
        ),
    )
    lines = capsys.readouterr().out.splitlines()
    (compute,) = (line for line in lines if line.startswith("compute pi4"))
    (send,) = (line for line in lines if line.startswith("send pi4 -> cloud"))
    (total,) = (line for line in lines if line.startswith("T  "))
    assert "emulated" in compute and "1.25" in send and "emulated" in total
    assert "  pi4        layers 1-9, torch on cuda" in lines
    assert "lost: laptop" in "\n".join(lines) and "(relay)" in "\n".join(lines)
    assert lines[:5] == [
        "Deadline met: p50 of T is 2 ms, 1 ms (33.3%) below T_const = 3 ms; the search promised T = 1.5 ms "
        "(emulated devices or links: no measurement)",
        "T as the equations count it: p50 2 ms, p95 2 ms, p99 2 ms",
        "there and back, as the caller waits: p50 3 ms, p95 3 ms, p99 3 ms",
        "T p50 2 ms = compute 1 ms + send 800 us + wait and scheduling 100 us + 100 us that medians leave",
        "",
    ]
    assert lines[-2:] == [
        "Predictions of pi4 are SIMULATED.",
        "Predictions of cloud are based on tables published by others.",
    ]
