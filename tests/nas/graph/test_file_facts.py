"""Bytes, dtypes, batch and identity of ONNX files, held against the tensors that onnxruntime makes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import OrtValue

from jmsnas.errors import EstimatorError, InputError
from jmsnas.nas.graph.from_onnx import model_from_onnx
from jmsnas.nas.graph.model import Model, Tensor, model_of_part
from jmsnas.nas.graph.onnx_timing import onnx_calls, random_input
from jmsnas.nas.graph.unit_profile import (
    SCHEMA_VERSION,
    ModelProfile,
    profile_path,
    read_profile,
    units_digest,
    write_profile,
)
from jmsnas.nas.load_model import load_problem
from jmsnas.nas.split.general_topology import load_general_topology
from jmsnas.nas.split.jpeg_size import jpeg_bytes
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.profiler.timing.onnx_session import open_session
from jmsnas.space import Block, Part
from jmsnas.workspace import Workspace

CASES = Path(__file__).parents[2] / "cases" / "onnx"
PI = load_general_topology(str(CASES / "net_pi.toml"))
NODE = helper.make_node
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}


def save(path: Path, nodes: list[onnx.NodeProto], given: tuple[int, list[int]], *weights: np.ndarray) -> Path:
    """Save a graph from x to y; the n-th weight is named wn."""
    ends = [
        helper.make_tensor_value_info("x", *given),
        onnx.ValueInfoProto(name="y", type=onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor(elem_type=1))),
    ]
    made = [numpy_helper.from_array(array, f"w{n}") for n, array in enumerate(weights)]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = onnx.shape_inference.infer_shapes(onnx.shape_inference.infer_shapes(_typed(model)))
    onnx.save(found, str(path))
    return path


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the output the type and shape that follow from the input."""
    del model.graph.output[:]
    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        if value.name == "y":
            model.graph.output.append(value)
    return model


def made_by_onnxruntime(path: Path, names: set[str]) -> dict[str, int]:
    """Bytes of tensors of a file, by name, as onnxruntime makes them from a random input."""
    model = onnx.load(str(path))
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names - known))
    session = open_session(model.SerializeToString(), 1, flush_denormals=False)
    values: list[OrtValue] = session.run_with_ort_values(
        [output.name for output in session.get_outputs()],
        {"x" if "x" in known else session.get_inputs()[0].name: random_input(model.graph.input[0], 0)},
    )
    return {
        output.name: value.tensor_size_in_bytes()
        for output, value in zip(session.get_outputs(), values, strict=True)
    }


def problem_of(path: Path, tmp_path: Path) -> SplitProblem:
    model = model_from_onnx(path)
    return load_problem(model, PI, Workspace(tmp_path))


@pytest.mark.parametrize(
    "name", ["base", "fp16", "float16_conv", "uint8in", "batch8", "rect", "shared", "fixed_input_chunk"]
)
def test_bytes_at_every_cut_are_those_of_onnxruntime(name: str) -> None:
    path = CASES / f"{name}.onnx"
    model = model_from_onnx(path)
    names = {tensor.name for unit in model.units for tensor in unit.outputs}
    made = made_by_onnxruntime(path, names)
    for unit in model.units:
        assert unit.output_bytes == sum(made[tensor.name] for tensor in unit.outputs), unit.name
    raw = random_input(onnx.load(str(path)).graph.input[0], 0)
    assert model.raw_input.size_bytes == raw.tensor_size_in_bytes()


STEPS = ("relu", "conv", "cast", "argmax", "softmax", "transpose", "fork")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(TYPES)),
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(sorted(TYPES))), min_size=1, max_size=6),
)
def test_any_mixture_of_dtypes_by_onnxruntime(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, batch: int, steps: list[tuple[str, str]]
) -> None:
    at, nodes, given_type, weights = "x", list[onnx.NodeProto](), TYPES[dtype], list[np.ndarray]()
    for n, (step, other) in enumerate(steps):
        out = f"t{n}"
        if step == "conv" and dtype == "float64":  # onnxruntime has no such Conv
            weights.append(np.ones((4, 4), dtype))
            nodes.append(NODE("MatMul", [at, f"w{len(weights) - 1}"], [out]))
        elif step == "conv":
            weights.append(np.ones((2, 2, 1, 1), dtype))
            nodes.append(NODE("Conv", [at, f"w{len(weights) - 1}"], [out]))
        elif step == "cast":
            nodes.append(NODE("Cast", [at], [out], to=TYPES[other]))
            dtype = other
        elif step == "argmax":  # int64 indices, kept as an activation
            nodes.append(NODE("ArgMax", [at], [f"{out}i"], axis=3))
            nodes.append(NODE("Cast", [f"{out}i"], [f"{out}c"], to=TYPES[dtype]))
            nodes.append(NODE("Add", [at, f"{out}c"], [out]))
        elif step == "fork":
            nodes += [NODE("Abs", [at], [f"{out}a"]), NODE("Neg", [at], [f"{out}b"])]
            nodes.append(NODE("Add", [f"{out}a", f"{out}b"], [out]))
        elif step == "softmax":
            nodes.append(NODE("Softmax", [at], [out]))
        elif step == "transpose":
            nodes.append(NODE("Transpose", [at], [out], perm=[0, 1, 3, 2]))
        else:
            nodes.append(NODE("Relu", [at], [out]))
        at = out
    nodes.append(NODE("Abs", [at], ["y"]))
    path = save(tmp_path_factory.mktemp("mixed") / "m.onnx", nodes, (given_type, [batch, 2, 4, 4]), *weights)
    model = model_from_onnx(path)
    made = made_by_onnxruntime(path, {tensor.name for unit in model.units for tensor in unit.outputs})
    for unit in model.units:
        assert unit.output_bytes == sum(made[tensor.name] for tensor in unit.outputs), unit.name
    assert model.batch == batch and model.raw_input.elements == batch * 32


@pytest.mark.parametrize(
    ("dtype", "encodings"),
    [
        (TensorProto.FLOAT, {"uint8": 60.0, "float32": 240.0}),
        (TensorProto.FLOAT16, {"uint8": 60.0, "float16": 120.0}),
        (TensorProto.BFLOAT16, {"uint8": 60.0, "bfloat16": 120.0}),
        (TensorProto.DOUBLE, {"uint8": 60.0, "float64": 480.0}),
        (TensorProto.UINT8, {"uint8": 60.0}),
        (TensorProto.INT8, {"int8": 60.0}),
        (TensorProto.BOOL, {"bool": 60.0}),
        (TensorProto.INT32, {"int32": 240.0}),
        (TensorProto.INT64, {"int64": 480.0}),
    ],
)
def test_the_raw_input_is_sent_in_its_own_dtype(
    dtype: int, encodings: dict[str, float], tmp_path: Path
) -> None:
    nodes = [NODE("Cast", ["x"], ["a"], to=TensorProto.FLOAT), NODE("Relu", ["a"], ["y"])]
    problem = problem_of(save(tmp_path / "net.onnx", nodes, (dtype, [2, 5, 6])), tmp_path)
    assert problem.input_bytes == encodings and problem.batch == 2
    own = list(encodings)[-1]
    assert problem.known_encoding("uint8") == ("uint8" if "uint8" in encodings else own)
    assert problem.known_encoding("float32") == own
    with pytest.raises(InputError, match=f"as jpeg is not known: expected --input .*{own}"):
        problem.sent_bytes_L("jpeg")


def test_the_facts_of_the_given_files(tmp_path: Path) -> None:
    base, half = (problem_of(CASES / f"{name}.onnx", tmp_path) for name in ("base", "fp16"))
    assert (half.output_bytes_N * 2 == base.output_bytes_N).all()
    assert (half.weight_bytes_N * 2 == base.weight_bytes_N).all()
    assert (half.peak_bytes_N * 2 == base.peak_bytes_N).all()
    eight = problem_of(CASES / "batch8.onnx", tmp_path)
    assert eight.input_bytes["uint8"] == 24576 and (eight.output_bytes_N == 8 * base.output_bytes_N).all()
    assert eight.input_bytes["jpeg"] == 8 * base.input_bytes["jpeg"] == 8 * jpeg_bytes(32, 32)
    assert (eight.weight_bytes_N == base.weight_bytes_N).all()
    pixels = problem_of(CASES / "uint8in.onnx", tmp_path)
    assert set(pixels.input_bytes) == {"uint8", "jpeg"} and pixels.output_bytes_N[0] == 4 * 3072


@pytest.mark.parametrize("wire", ["float16", "uint8"])
def test_a_link_narrows_float32_only(wire: str, tmp_path: Path) -> None:
    narrow = replace(PI, links=(replace(PI.links[0], wire=wire),))
    base, half = (model_from_onnx(CASES / f"{name}.onnx") for name in ("base", "fp16"))
    assert load_problem(base, narrow, Workspace(tmp_path)).links == narrow.links
    if wire == "float16":
        assert load_problem(half, narrow, Workspace(tmp_path)).links == PI.links
        return
    with pytest.raises(
        InputError, match="link pi4 -> laptop sends float32 as uint8, but .*fp16.onnx has out"
    ):
        load_problem(half, narrow, Workspace(tmp_path))


def test_a_weight_behind_copies_is_held_once(tmp_path: Path) -> None:
    weight = np.ones((64, 64), np.float32)
    for name, nodes, count in (
        ("identity", [NODE("Identity", ["w0"], ["a"]), NODE("Identity", ["w0"], ["b"])], 1),
        ("transpose", [NODE("Transpose", ["w0"], [name], perm=[1, 0]) for name in "ab"], 1),
        ("both", [NODE("Identity", ["w0"], ["a"]), NODE("Transpose", ["w0"], ["b"], perm=[1, 0])], 2),
    ):
        nodes = [*nodes, NODE("MatMul", ["x", "a"], ["t"]), NODE("MatMul", ["t", "b"], ["y"])]
        path = save(tmp_path / f"{name}.onnx", nodes, (TensorProto.FLOAT, [1, 64]), weight)
        problem = problem_of(path, tmp_path)
        assert problem.N == 2 and problem.held_bytes(range(2)) == count * weight.nbytes, name
        assert model_from_onnx(path).parameters == count * weight.size


def test_a_dequantised_weight_is_held_as_it_is_stored(tmp_path: Path) -> None:
    nodes = [
        NODE("DequantizeLinear", ["w0", "w1", "w2"], ["w"]),
        NODE("MatMul", ["x", "w"], ["t"]),
        NODE("MatMul", ["t", "w"], ["y"]),
    ]
    arrays = (np.ones((64, 64), np.int8), np.float32(0.1), np.int8(0))
    problem = problem_of(save(tmp_path / "q.onnx", nodes, (TensorProto.FLOAT, [1, 64]), *arrays), tmp_path)
    assert problem.held_bytes(range(2)) == 64 * 64 and problem.output_bytes_N.tolist() == [256.0, 256.0]


@pytest.mark.parametrize("shape", [[], [5], [2, 5], [2, 1, 5], [2, 1, 1, 5], [2, 1, 1, 1, 5]])
def test_inputs_of_any_rank_are_split_and_measured(shape: list[int], tmp_path: Path) -> None:
    nodes = [NODE("Relu", ["x"], ["a"]), NODE("Sigmoid", ["a"], ["y"])]
    path = save(tmp_path / "net.onnx", nodes, (TensorProto.FLOAT, shape))
    model, problem = model_from_onnx(path), problem_of(path, tmp_path)
    count = int(np.prod(shape))
    assert problem.input_bytes == {"uint8": count, "float32": 4 * count}
    assert problem.output_bytes_N.tolist() == [4 * count]
    assert (model.batch, model.input_shape) == (
        (1, tuple(shape)) if len(shape) < 2 else (2, tuple(shape[1:]))
    )
    for call in onnx_calls(path, 1, 0):
        call()
    result = split(problem, SplitRequest("uint8", "relay"))
    assert result.proven


def test_an_empty_input_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", [NODE("Relu", ["x"], ["y"])], (TensorProto.FLOAT, [1, 0]))
    with pytest.raises(InputError, match=r"input 'x' has shape \[1, 0\]: expected one element or more"):
        model_from_onnx(path)


def test_sizes_of_dtypes() -> None:
    sizes = {
        "float64": 24,
        "int4": 2,
        "uint2": 1,
        "bool": 3,
        "bfloat16": 6,
        "float8_e4m3fn": 3,
        "complex64": 24,
    }
    assert {dtype: Tensor("t", (3,), dtype).size_bytes for dtype in sizes} == sizes


def profile(model: Model) -> ModelProfile:
    each = (1e-3,) * model.N
    digest = units_digest(model)
    return ModelProfile(
        SCHEMA_VERSION, "base.onnx", "local", "onnxruntime", 1, digest, each, each, each, 1e-3, 1, "", {}
    )


def test_no_profile_serves_another_file_of_the_same_name(tmp_path: Path) -> None:
    """Same number of units and same sizes of outputs; other dtype, batch, sides, widths or attributes."""
    files = [CASES / f"{name}.onnx" for name in ("base", "fp16", "uint8in", "batch8", "rect", "shared")]
    relu = [NODE("Relu", ["x"], ["y"])]
    for n, shape in enumerate(([1, 3, 4, 4], [1, 3, 2, 8], [3, 1, 4, 4], [1, 3, 16])):
        files.append(save(tmp_path / f"shape{n}.onnx", relu, (TensorProto.FLOAT, shape)))
    for n, (size, pads) in enumerate(((2, [0, 0, 0, 0]), (4, [1, 1, 1, 1]))):
        pool = NODE("MaxPool", ["x"], ["y"], kernel_shape=[size, size], strides=[2, 2], pads=pads)
        files.append(save(tmp_path / f"pool{n}.onnx", [pool], (TensorProto.FLOAT, [1, 3, 8, 8])))
    for hidden in (4, 8):
        nodes = [NODE("MatMul", ["x", "w0"], ["a"]), NODE("ReduceMax", ["a"], ["y"], axes=[1])]
        weight = np.ones((6, hidden), np.float32)
        files.append(save(tmp_path / f"h{hidden}.onnx", nodes, (TensorProto.FLOAT, [1, 6]), weight))
    models = [replace(model_from_onnx(path), name="base.onnx") for path in files]
    assert len({units_digest(model) for model in models}) == len(models)
    workspace = Workspace(tmp_path)
    for n, model in enumerate(models):
        assert read_profile(workspace, "local", model, "onnxruntime") is None
        write_profile(profile_path(workspace, "local", model, "onnxruntime"), profile(model))
        # Measuring one file replaces no measurement of another.
        for other in models[: n + 1]:
            assert read_profile(workspace, "local", other, "onnxruntime") == profile(other)
    path = profile_path(workspace, "local", models[1], "onnxruntime")
    write_profile(path, profile(models[0]))
    with pytest.raises(EstimatorError, match=r"is of another version of base.onnx, with other units, shapes"):
        read_profile(workspace, "local", models[1], "onnxruntime")


def test_a_profile_serves_the_same_file_under_other_tensor_names(tmp_path: Path) -> None:
    weight = np.ones((6, 8), np.float32)
    digests = set()
    for name in ("a", "onnx::MatMul_7"):
        nodes = [NODE("MatMul", ["x", "w0"], [name]), NODE("Relu", [name], ["y"])]
        path = save(tmp_path / "net.onnx", nodes, (TensorProto.FLOAT, [1, 6]), weight)
        digests.add(units_digest(model_from_onnx(path)))
    assert len(digests) == 1
    blocks = [Block.parse("mb_k3_e3 16->16 8x8"), Block.parse("mb_k3_e6 16->16 8x8")]
    assert len({units_digest(model_of_part(Part((block,)), "m", "")) for block in blocks}) == 2
