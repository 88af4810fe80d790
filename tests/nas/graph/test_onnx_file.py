"""ONNX files of strangers: each is read with its own costs, or refused in one line, within limits."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_files import NODE, STANDARD, numbers, save_onnx, scalar, weight

from jmsnas.errors import InputError
from jmsnas.nas.graph.from_onnx import model_from_onnx
from jmsnas.nas.graph.onnx_timing import onnx_calls

F = helper.make_opsetid("f", 1)
ESCAPES = "\x1b[31mred\x1b]0;title\x07\u202e\n"
HUGE = 1 << 34


def chain(length: int, operator: str, *others: str, start: str = "x", end: str = "y") -> list[onnx.NodeProto]:
    names = [start, *(f"t{n}" for n in range(1, length)), end]
    return [NODE(operator, [names[n], *others], [names[n + 1]]) for n in range(length)]


def doubling(levels: int) -> list[onnx.FunctionProto]:
    """Functions of which each calls the one before twice."""
    found = [helper.make_function("f", "f0", ["a"], ["b"], [NODE("Relu", ["a"], ["b"])], [STANDARD])]
    for n in range(1, levels + 1):
        calls = [NODE(f"f{n - 1}", [read], [made], domain="f") for read, made in (("a", "t"), ("t", "b"))]
        found.append(helper.make_function("f", f"f{n}", ["a"], ["b"], calls, [STANDARD, F]))
    return found


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        model_from_onnx(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("node", "shape", "sizes", "message"),
    [
        (
            NODE("Conv", ["x", "w"], ["y"]),
            [1, 3, 8, 8],
            [3],
            r"'y' \(Conv\) has an output of unknown shape: ",
        ),
        (NODE("Conv", ["x", "w"], ["y"]), [1, 3, 8, 8], [], r"'y' \(Conv\) has an output of unknown shape: "),
        (NODE("Conv", ["x", "w"], ["y"], group=0), [1, 3, 8, 8], [4, 3, 3, 3], "expected matching channels"),
        (NODE("Conv", ["x", "w"], ["y"], group=2), [1, 3, 8, 8], [4, 3, 3, 3], "expected matching channels"),
        (NODE("Conv", ["x", "w"], ["y"], strides=[0, 0]), [1, 3, 8, 8], [4, 3, 3, 3], "positive values"),
        (NODE("Gemm", ["x", "w"], ["y"]), [1, 8], [], r"\(Gemm\) has an output of unknown shape: .* rank 2"),
        (NODE("Gemm", ["x", "w"], ["y"]), [1, 8], [8], r"\(Gemm\) has an output of unknown shape: .* rank 2"),
        (NODE("MatMul", ["x", "w"], ["y"]), [1, 8], [], r"\(MatMul\) has an output of unknown shape: .*rank"),
        (NODE("MatMul", ["x", "w"], ["y"]), [1, 8], [7, 3], "Incompatible dimensions for matrix multip"),
        (NODE("Unsqueeze", ["x", "w"], ["y"]), [1, 8], [1], "axes typestr.* has unsupported type"),
        (NODE("Split", ["x"], ["y", "a", "b"], num_outputs=2), [1, 8], [1], "num_outputs is not the number"),
        (NODE("NonZero", ["x"], ["y"]), [1, 8], [1], "depends on values that are known when the model runs"),
        (NODE("Blur", ["x"], ["y"], domain="f"), [1, 8], [1], "no operator of the ONNX standard"),
        (NODE("Relu", ["x"], ["y"]), [1, -8], [1], r"input 'x' has shape \[1, -8\]: expected one element"),
        (NODE("Relu", ["x"], ["y"]), [1, 3, "h", 8], [1], "input 'x' is not fixed.* with a fixed input"),
        (NODE("Relu", ["x"], ["y"]), None, [1], "input 'x' is not fixed.* with a fixed input"),
        (NODE("Relu", ["z"], ["y"]), [1, 8], [1], "topologically sorted, however input 'z'"),
        (NODE("Relu", ["w"], ["y"]), [1, 8], [1], "no operator that depends on its input"),
        (NODE("Dropout", ["x", "", "yes"], ["y"]), [1, 8], [1], r"'y' \(Dropout\) is in training mode"),
    ],
)
def test_a_node_that_cannot_be_placed_is_refused_by_name_and_reason(
    node: onnx.NodeProto, shape: list[int | str] | None, sizes: list[int], message: str, tmp_path: Path
) -> None:
    weights = weight("w", *sizes), scalar("yes", True)
    refused(save_onnx(tmp_path / "net.onnx", [node], shape, *weights, opsets=[STANDARD, F]), message)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([NODE("ConstantOfShape", ["huge"], ["c"])], r"'c' \(ConstantOfShape\) has an output of shape \[17"),
        ([NODE("Tile", ["one", "huge"], ["c"])], r"'c' \(Tile\) has an output of shape \[1717"),
        ([NODE("Expand", ["one", "huge"], ["c"])], r"'c' \(Expand\) has an output of shape \[1717"),
        ([NODE("Range", ["zero", "end", "step"], ["c"])], r"'c' \(Range\) has an output of shape \[1717"),
        ([NODE("Concat", [f"c{n}", f"c{n}"], [f"c{n + 1}"], axis=0) for n in range(40)]
         + [NODE("Identity", ["c40"], ["c"])], r"\(Concat\) has an output of shape"),
    ],
)  # fmt: skip
def test_a_constant_that_would_fill_the_memory_is_refused_before_it_is_computed(
    nodes: list[onnx.NodeProto], message: str, tmp_path: Path
) -> None:
    end = [
        NODE("ReduceMax", ["c"], ["m"], keepdims=0),
        NODE("Cast", ["m"], ["f"], to=1),
        NODE("Add", ["x", "f"], ["y"]),
    ]
    weights = (
        weight("one", 1), weight("c0", 4), numbers("huge", HUGE), scalar("zero", 0), scalar("end", HUGE),
        scalar("step", 1),
    )  # fmt: skip
    refused(save_onnx(tmp_path / "bomb.onnx", [*nodes, *end], [1, 8], *weights), message)


def test_graphs_are_bounded_with_functions_inlined(tmp_path: Path) -> None:
    path, call = tmp_path / "net.onnx", [NODE("f25", ["x"], ["y"], domain="f")]
    many = "more than 20000 nodes, or 100000 inputs and outputs of nodes, functions inlined"
    refused(save_onnx(path, call, [1, 8], opsets=[STANDARD, F], functions=doubling(25)), many)
    refused(save_onnx(path, chain(100_000, "Relu"), [1, 8]), many)
    dense = [NODE("Sum", ["x", *(f"t{k}" for k in range(n))], [f"t{n}"]) for n in range(500)]
    refused(save_onnx(path, [*dense, NODE("Relu", ["t499"], ["y"])], [1, 8]), many)
    own = helper.make_function("f", "f25", ["a"], ["b"], [NODE("f25", ["a"], ["b"], domain="f")], [F])
    refused(
        save_onnx(path, call, [1, 8], opsets=[STANDARD, F], functions=[own]), "call each other without end"
    )
    save_onnx(
        path, [NODE("f4", ["x"], ["y"], domain="f")], [1, 8], opsets=[STANDARD, F], functions=doubling(4)
    )
    (unit,) = model_from_onnx(path).units
    assert len(unit.operators) == 16


def test_a_long_chain_is_read_in_linear_memory(tmp_path: Path) -> None:
    # 3,000 constants: a list of all tensors behind each would have 4.5 million entries.
    nodes = [*chain(3000, "Add", "w", start="w", end="sum"), NODE("Add", ["x", "sum"], ["y"])]
    assert model_from_onnx(save_onnx(tmp_path / "net.onnx", nodes, [1, 8], weight("w", 8))).N == 1
    names = model_from_onnx(save_onnx(tmp_path / "net.onnx", chain(3000, "Relu"), [1, 8])).units[0].name
    assert names.startswith("relu + relu") and names.endswith("+ 2980 more")


@pytest.mark.parametrize("value", [True, False])
def test_a_constant_condition_is_no_control_flow(value: bool, tmp_path: Path) -> None:
    branches = [
        helper.make_graph([NODE(name, ["x"], ["z"])], "b", [], [helper.make_tensor_value_info("z", 1, None)])
        for name in ("Relu", "Tanh")
    ]
    node = NODE("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    path = save_onnx(tmp_path / "net.onnx", [node], [1, 8], scalar("c", value))
    assert model_from_onnx(path).units[0].name == ("relu" if value else "tanh")
    flag = [NODE("ReduceMax", ["x"], ["m"], keepdims=0), NODE("Cast", ["m"], ["c"], to=TensorProto.BOOL)]
    refused(save_onnx(tmp_path / "net.onnx", [*flag, node], [1, 8]), r"'y' \(If\) is control flow")


def test_texts_of_a_file_are_printable(tmp_path: Path) -> None:
    path, opsets = tmp_path / "net.onnx", [STANDARD, F]
    refused(save_onnx(path, [NODE("Re" + ESCAPES, ["x"], ["y"])], [1, 8]), "No Op registered for Re")
    refused(save_onnx(path, [NODE("NonZero", ["x"], ["y"], name=ESCAPES)], [1, 8]), "node .*NonZero")
    refused(save_onnx(path, [NODE("Relu", ["x"], ["y"])], [1, ESCAPES]), "not fixed")
    graph = helper.make_graph(
        [NODE("Re" + ESCAPES, ["x"], ["y"], domain="f")],
        ESCAPES,
        [helper.make_tensor_value_info("x", 1, [1, 8])],
        [helper.make_tensor_value_info("y", 1, [1, 8])],
    )
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    (unit,) = model_from_onnx(path).units
    assert unit.name.isprintable() and unit.unknown[0].isprintable() and unit.unknown[0].startswith("f:Re")


def test_an_operator_of_another_domain_has_no_costs_of_its_namesake(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [NODE("Relu", ["x"], ["y"], domain="f")],
        "net",
        [helper.make_tensor_value_info("x", 1, [1, 8])],
        [helper.make_tensor_value_info("y", 1, [1, 8])],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[STANDARD, F], ir_version=8), str(path))
    assert model_from_onnx(path).units[0].unknown == ("f:Relu",)


def test_shapes_that_a_file_claims_are_not_believed(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "net.onnx", chain(2, "MatMul", "w"), [1, 8], weight("w", 8, 8))
    model = onnx.load(str(path))
    model.graph.value_info.append(helper.make_tensor_value_info("t1", 1, [1, 3]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, [1, 1]))
    onnx.save(model, str(path))
    assert [unit.output_elements for unit in model_from_onnx(path).units] == [8, 8]


@pytest.mark.parametrize("location", ["../../../etc/passwd", "/etc/passwd", "nothing.bin"])
def test_weights_in_other_files_count_and_only_those_beside_the_file_are_read(
    location: str, tmp_path: Path
) -> None:
    path = save_onnx(tmp_path / "net.onnx", [NODE("MatMul", ["x", "w"], ["y"])], [1, 8], weight("w", 8, 8))
    model = onnx.load(str(path))
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    onnx.save(model, str(path))
    assert model_from_onnx(path).parameters == 64
    with pytest.raises(Exception, match="cannot read the weights of .*net.onnx: ") as caught:
        onnx_calls(path, 1, 0)
    assert str(caught.value).isprintable()


def test_weights_that_are_no_dense_tensors_of_their_size_are_refused(tmp_path: Path) -> None:
    path, node = tmp_path / "net.onnx", NODE("MatMul", ["x", "w"], ["y"])
    short = TensorProto(name="w", data_type=1, dims=[1 << 11, 8], raw_data=b"1234")
    refused(save_onnx(path, [node], [1, 8], short), "raw_data size .4 bytes. is too small")
    vast = TensorProto(name="w", data_type=1, dims=[1 << 62, 1 << 62], raw_data=b"1234")
    refused(save_onnx(path, [node], [1, 8], vast), "weight 'w' has shape .*: expected a smaller one")
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32), "v"), numbers("i", 3), [64]
    )
    refused(
        save_onnx(path, [NODE("Constant", [], ["w"], sparse_value=sparse), node], [1, 8]), "sparse weights"
    )
    refused(
        save_onnx(path, [node], [1, 8], weight("w", 8, 8), opsets=[helper.make_opsetid("", 99)]),
        "opset later",
    )


def mutated(content: bytes, changes: list[tuple[int, int, int]]) -> bytes:
    made = bytearray(content)
    for at, kind, value in changes:
        at %= len(made)
        if kind == 0:
            made[at] = value
        elif kind == 1:
            del made[at : at + value % 8]
        else:
            made[at : at + 8] = made[value % len(made) :][:8]
    return bytes(made)


@pytest.mark.parametrize("name", ["fixed_input_chunk", "vector_input_unknown_operator", "float16_conv"])
def test_a_damaged_file_is_read_or_refused_in_one_line(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = (Path(__file__).parents[2] / "cases" / "onnx" / f"{name}.onnx").read_bytes()
    path = tmp_path_factory.mktemp("damaged") / "net.onnx"
    numbers_255 = st.integers(0, 255)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 2), numbers_255), min_size=1, max_size=4)
    )
    def check(changes: list[tuple[int, int, int]]) -> None:
        path.write_bytes(mutated(content, changes))
        try:
            model_from_onnx(path)
        except InputError as error:
            assert str(error).isprintable()

    check()
