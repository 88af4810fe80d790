import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mesh_runs import write_mesh_run

from jmsnas.errors import InputError
from jmsnas.report.report_data import read_report_data
from jmsnas.workspace import Workspace


def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_a_run_as_it_was_written(run: Path) -> None:
    data, result = (
        read_report_data(Workspace(run.parents[1]), run),
        json.loads((run / "result.json").read_text()),
    )
    assert [c.name for c in data.derived.candidates] == result["derived"]["candidates"]
    assert data.derived.latency_s == result["derived"]["latency_s"]
    assert [epoch.stage for epoch in data.epochs] == ["warm-up", "search", "final"]
    assert data.simulated == ("pi4", "laptop", "jetson", "cloud")
    assert data.config.final_epochs == 1 and data.config.t_const_s == data.run.target.t_const_s
    assert sum(layer.macs or 0 for layer in data.layers) == result["macs"]
    for term in data.derived.terms:
        tau_s = sum(layer.tau_s or 0 for layer in data.layers if layer.device == term.device)
        assert tau_s == pytest.approx(term.tau_s, rel=1e-9)


def test_cloud_only_term_by_term(run: Path) -> None:
    # 64 bytes (uint8) at 25, 50 and 200 Mbit/s: 20.48, 10.24 and 2.56 us; float32 takes four times that.
    data = read_report_data(Workspace(run.parents[1]), run)
    uint8, float32 = data.cloud_terms("uint8"), data.cloud_terms("float32")
    assert [term.epsilon_s * 1e6 for term in uint8] == pytest.approx([20.48, 10.24, 2.56, 0])
    assert [term.epsilon_s * 1e6 for term in float32] == pytest.approx([81.92, 40.96, 10.24, 0])
    assert [term.tau_s for term in uint8[:-1]] == [0, 0, 0] and uint8[-1].tau_s == float32[-1].tau_s
    assert sum(term.tau_s + term.epsilon_s for term in uint8) == pytest.approx(data.run.cloud_only.latency_s)
    assert uint8[-1].layers == tuple(range(1, 13)) and float32[0].sent_bytes == 256


def _no_term(result: dict[str, Any]) -> None:
    result["derived"]["terms"].pop()


def _not_a_number(result: dict[str, Any]) -> None:
    result["target"]["t_const_s"] = "soon"


def _infinite(result: dict[str, Any]) -> None:
    result["probabilities"] = [float("nan")]


def _no_key(result: dict[str, Any]) -> None:
    del result["accuracy"]


def _unknown_device(result: dict[str, Any]) -> None:
    result["derived"]["terms"][0]["device"] = "elsewhere"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_no_term, "do not hold each of 12 layers once, in order"),
        (_not_a_number, "Expected `float`, got `str` - at `\\$.target.t_const_s`"),
        (_infinite, "JSON is malformed"),
        (_no_key, "Object missing required field `accuracy`"),
        (_unknown_device, "expected a term for each of pi4, laptop, jetson, cloud"),
    ],
)
def test_a_damaged_result(
    run: Path, tmp_path: Path, damage: Callable[[dict[str, Any]], None], said: str
) -> None:
    folder, result = copied(run, tmp_path), json.loads((run / "result.json").read_text())
    damage(result)
    (folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match=f"result.json is damaged, .*{said}") as error:
        read_report_data(Workspace(run.parents[1]), folder)
    assert "\n" not in str(error.value) and "Run the search again" in str(error.value)


def test_other_files_that_are_missing_or_damaged(run: Path, tmp_path: Path) -> None:
    workspace, folder = Workspace(run.parents[1]), copied(run, tmp_path)
    (folder / "log.jsonl").write_text('{"stage": "final"}\n')
    with pytest.raises(InputError, match=r"log.jsonl is damaged.* \(Object missing required field"):
        read_report_data(workspace, folder)
    (folder / "log.jsonl").unlink()
    with pytest.raises(InputError, match=r"cannot read .*log.jsonl: No such file or directory"):
        read_report_data(workspace, folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="config.json is damaged.*Object missing required field"):
        read_report_data(workspace, folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"config.json is damaged.*Expected `object`, got `array`"):
        read_report_data(workspace, folder)
    with pytest.raises(InputError, match="holds no finished run"):
        read_report_data(workspace, tmp_path / "nowhere")


def test_a_changed_space(run: Path, tmp_path: Path) -> None:
    folder, result = copied(run, tmp_path), json.loads((run / "result.json").read_text())
    result["space"]["layers"][3] = "16->16 9x9"
    (folder / "result.json").write_text(json.dumps(result))
    data = read_report_data(Workspace(run.parents[1]), folder)
    assert {layer.tau_s for layer in data.layers} == {None} == {layer.macs for layer in data.layers}


def test_schedule_of_a_mesh_run(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    folder = write_mesh_run(workspace, "tree")
    data, result = read_report_data(workspace, folder), json.loads((folder / "result.json").read_text())
    assert data.equation == "(2)" and data.tree and data.tree.root == "laptop"
    assert max(term.end_s for term in data.derived.schedule) == pytest.approx(
        result["derived"]["latency_s"], rel=1e-12
    )
    # The image may take any child's way: 64 bytes at 25, 50 and 200 Mbit/s, as on the chain.
    assert [link.source for link in data.cloud_route("uint8")][:2] == ["pi4", "laptop"]
    terms = data.cloud_terms("uint8")
    assert [term.epsilon_s * 1e6 for term in terms] == pytest.approx([20.48, 10.24, 2.56, 0])
    assert sum(term.tau_s + term.epsilon_s for term in terms) == pytest.approx(data.run.cloud_only.latency_s)
    assert [layer.number for layer in data.layers] == list(range(1, len(data.derived.candidates) + 1))


def test_the_return_of_the_result_is_a_term(run: Path, tmp_path: Path) -> None:
    # 10 logits as float32, 40 bytes over 200, 50 and 25 Mbit/s: 8 x 40 x 0.065 us = 20.8 us.
    folder, result = copied(run, tmp_path), json.loads((run / "result.json").read_text())
    return_s = 20.8e-6
    result["topology"]["returns"] = True
    result["derived"]["terms"][-1]["return_s"] = return_s
    result["derived"]["latency_s"] += return_s
    result["cloud_only"]["latency_s"] += return_s
    (folder / "result.json").write_text(json.dumps(result))
    before, data = (
        read_report_data(Workspace(run.parents[1]), run),
        read_report_data(Workspace(run.parents[1]), folder),
    )
    assert data.return_s == pytest.approx(return_s) and data.derived.schedule[-1].symbol == "back"
    assert data.derived.schedule[-1].end_s == pytest.approx(data.derived.latency_s)
    assert data.cloud_terms("uint8")[-1].tau_s == pytest.approx(before.cloud_terms("uint8")[-1].tau_s)
