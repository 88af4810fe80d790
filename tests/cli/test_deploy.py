import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.cli.output.deploy import print_deployment

RUNNER = CliRunner()


def test_certs_prints_what_devices_toml_needs(tmp_path: Path) -> None:
    words = ["certs", "--device", "pi4", "--workspace", str(tmp_path)]
    done = RUNNER.invoke(app, words)
    assert done.exit_code == 0 and 'name = "pi4"' in done.stdout and "fingerprint = " in done.stdout
    again = RUNNER.invoke(app, [*words, "--json"])
    document = json.loads(again.stdout)
    assert document["fingerprints"]["pi4"] in done.stdout  # the key is kept
    wrong = RUNNER.invoke(app, ["certs", "--device", "../x", "--workspace", str(tmp_path)])
    assert wrong.exit_code == 2 and "must be 1 to 64 of a-z" in wrong.stderr


def test_an_agent_without_certificates(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["agent", "--certs", str(tmp_path)])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert "jmsnas certs --device NAME" in done.stderr


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["deploy", "nothing", "--workspace", str(tmp_path)])
    assert done.exit_code == 2 and "holds no finished run" in done.stderr
    done = RUNNER.invoke(app, ["deploy", "nothing", "--cuts", "3,2", "--workspace", str(tmp_path)])
    assert done.exit_code == 2 and "non-decreasing whole numbers" in done.stderr


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
        }
    )
    lines = capsys.readouterr().out.splitlines()
    (compute,) = (line for line in lines if line.startswith("compute pi4"))
    (send,) = (line for line in lines if line.startswith("send pi4 -> cloud"))
    (total,) = (line for line in lines if line.startswith("T  "))
    assert "emulated" in compute and "1.25" in send and "emulated" in total
    assert "  pi4        layers 1-9, torch on cuda" in lines
    assert "lost: laptop" in "\n".join(lines) and "(relay)" in "\n".join(lines)
    assert lines[-2:] == [
        "Predictions of pi4 are SIMULATED.",
        "Predictions of cloud are based on tables published by others.",
    ]
