"""`jmsnas split` and `profile --model` of the ONNX files in tests/cases: dtypes, batch, shared weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from jmsnas.cli import app

CASES = Path(__file__).parents[1] / "cases" / "onnx"
runner = CliRunner()


def run(folder: Path, verb: str, *words: str) -> tuple[int, dict[str, Any], str]:
    result = runner.invoke(app, [verb, *words, "--json", "--workspace", str(folder)])
    return result.exit_code, json.loads(result.stdout), result.stderr


def split(folder: Path, name: str, *words: str, topology: str = "net_pi") -> dict[str, Any]:
    asked = (str(CASES / f"{name}.onnx"), "--topology", str(CASES / f"{topology}.toml"))
    code, document, _ = run(folder, "split", *asked, *words)
    assert code == 0
    return document


def test_a_weight_of_three_uses_is_held_once(tmp_path: Path) -> None:
    (answer,) = split(tmp_path, "shared", topology="net_mem")["results"]
    assert answer["devices"] == ["pi4"] * 6 and answer["proven"] and answer["allowed"]
    assert answer["latency_s"] == pytest.approx(804.8e-6, abs=5e-8)
    (given,) = split(tmp_path, "shared", "--cuts", "6", topology="net_mem")["results"]
    assert given["allowed"] and given["use"][0]["memory_bytes"] == 1792 + 9280 + 680 + 32768
    (given,) = split(tmp_path, "unshared", "--cuts", "6", topology="net_mem")["results"]
    assert not given["allowed"] and given["use"][0]["memory_bytes"] == 1792 + 3 * 9280 + 680 + 32768
    words = ["split", str(CASES / "shared.onnx"), "--list", "--workspace", str(tmp_path)]
    assert (
        "Layers 2, 3, 4 share a weight of 9216 B, held once on a device." in runner.invoke(app, words).stdout
    )


def test_a_batch_is_one_of_its_images(tmp_path: Path) -> None:
    document = split(tmp_path, "batch8", "--method", "cloud")
    assert document["input_bytes"]["uint8"] == 24576 and document["batch"] == 8
    words = ["split", str(CASES / "batch8.onnx"), "--workspace", str(tmp_path)]
    out = runner.invoke(app, [*words, "--topology", str(CASES / "net_pi.toml")]).stdout
    assert "10 layers, batch 8, input uint8 (24576 B)" in out and "a batch of 8 images every" in out


@pytest.mark.parametrize("encoding", ["uint8", "float16", "jpeg"])
def test_a_float16_file_has_its_own_bytes(encoding: str, tmp_path: Path) -> None:
    document = split(tmp_path, "fp16", "--input", encoding, "--method", "device")
    assert document["input_bytes"]["float16"] == 6144 and "float32" not in document["input_bytes"]
    assert document["results"][0]["steps"][-1]["sent_bytes"] == 20.0
    assert "by its figures of float32 (float16 in the model)" in document["devices"][0]["provenance"]


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        (
            "fp16",
            ["--input", "float32"],
            "as float32 is not known: expected --input uint8 or float16 or jpeg",
        ),
        (
            "fp16",
            ["--input", "float32", "--method", "all"],
            "as float32 is not known: expected --input uint8",
        ),
        ("uint8in", ["--input", "float32"], "as float32 is not known: expected --input uint8 or jpeg"),
        ("vector_input_unknown_operator", ["--input", "jpeg"], "no figures of "),
        ("base", ["--size", "64"], "base.onnx has a fixed input of 3x32x32: leave out --size"),
        ("rect", ["--size", "32"], "rect.onnx has a fixed input of 3x32x48: leave out --size"),
        ("vector_input_unknown_operator", [], "no figures of Erf are published for pi4"),
    ],
)
def test_what_a_file_does_not_have_is_refused(
    name: str, words: list[str], message: str, tmp_path: Path
) -> None:
    asked = [str(CASES / f"{name}.onnx"), "--topology", str(CASES / "net_pi.toml"), *words]
    result = runner.invoke(app, ["split", *asked, "--workspace", str(tmp_path)])
    errors = [line for line in result.stderr.splitlines() if not line.startswith("SIMULATED:")]
    assert result.exit_code == 2 and result.stdout == "" and len(errors) == 1 and message in errors[0]


@pytest.mark.parametrize("name", ["fp16", "uint8in", "vector_input_unknown_operator"])
def test_a_file_of_any_input_is_profiled(name: str, tmp_path: Path) -> None:
    asked = ("--model", str(CASES / f"{name}.onnx"), "--budget", "200ms", "--seed", "1")
    code, document, _ = run(tmp_path, "profile", *asked)
    assert code == 0 and document["sum_s"] > 0 and document["runtime"] == "onnxruntime"


def test_a_profile_serves_its_own_file_only(tmp_path: Path) -> None:
    path = Path(shutil.copy(CASES / "base.onnx", tmp_path / "base.onnx"))
    assert run(tmp_path, "profile", "--model", str(path), "--budget", "200ms")[0] == 0
    asked = (str(path), "--topology", str(CASES / "net_local.toml"))
    code, document, _ = run(tmp_path, "split", *asked)
    assert code == 0 and document["devices"][0]["provenance"].startswith("measured: the model's own 10 units")
    for other in ("fp16", "batch8", "rect", "uint8in"):
        shutil.copy(CASES / f"{other}.onnx", path)
        code, document, _ = run(tmp_path, "split", *asked)
        assert code == 2 and "base.onnx has not been measured on local" in document["error"]["message"]


def test_token_numbers_are_sent_as_the_file_has_them(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gather", ["w", "x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.INT64, [1, 32]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 4]),
    ]
    table = numpy_helper.from_array(np.ones((9, 4), np.float32), "w")
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [table])
    path = tmp_path / "ids.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    asked = (str(path), "--topology", str(CASES / "net_pi.toml"), "--method", "all")
    code, document, _ = run(tmp_path, "split", *asked)
    assert code == 0 and document["input"] == "int64" and document["input_bytes"] == {"int64": 256.0}
