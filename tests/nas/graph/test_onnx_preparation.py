from pathlib import Path

import pytest

from jmsnas.nas.graph.from_onnx import model_from_onnx

CASES = Path(__file__).parents[2] / "cases" / "onnx"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("gemm_weight_transposed", "gemm_weight_plain"),
        ("gemm_weight_cast", "gemm_weight_plain"),
        ("conv_weight_identity", "conv_weight_plain"),
        ("w_constant", "base"),
        ("w_identity", "base"),
    ],
)
def test_a_weight_behind_constant_nodes_is_a_weight(name: str, plain: str) -> None:
    found, expected = (
        [
            (
                u.name,
                u.inputs,
                u.operators,
                u.output_bytes,
                u.peak_bytes,
                sum(w.size_bytes for w in u.weights),
            )
            for u in model_from_onnx(CASES / f"{file}.onnx").units
        ]
        for file in (name, plain)
    )
    assert found == expected


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("dead_node", ["conv 3x3 3->16 + relu", "mean", "linear"]),
        ("fixed_input_shape_arithmetic", ["view", "linear"]),
        ("scalar_intermediate", ["ReduceMax", "div"]),
    ],
)
def test_unused_nodes_and_shape_arithmetic_are_left_out(name: str, units: list[str]) -> None:
    assert [unit.name for unit in model_from_onnx(CASES / f"{name}.onnx").units] == units
