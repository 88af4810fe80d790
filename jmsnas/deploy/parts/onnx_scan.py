"""Read the operators and opset of an ONNX file from its protobuf fields, without the onnx package.

Used by agents to refuse unsupported operators and references to other files. Field numbers are those of
onnx.proto (ONNX 1.21); operators that are not in the list below are refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from jmsnas.errors import PartError

# Operators of exported `jmsnas.blocks`, with BatchNorm folded.
ALLOWED_OPERATORS = frozenset(
    {
        "Add",
        "Clip",
        "Constant",
        "Conv",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "MatMul",
        "Mul",
        "ReduceMean",
        "Relu",
        "Reshape",
    }
)
ALLOWED_OPSETS = range(17, 26)
_MAX_NODES = 20_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class OnnxRequirements:
    """Opset of the standard domain, and the operators of a model: each once, sorted."""

    opset: int
    ops: tuple[str, ...]


def scan_onnx(model: bytes) -> OnnxRequirements:
    """Read the opset and operators of a model, and check that it may be run.

    Raises PartError for another kind of file, an operator or opset that is not allowed, another domain,
    functions, training information, subgraphs, sparse tensors, or external data.
    """
    view, opsets, graphs = memoryview(model), list[int](), list[memoryview]()
    for number, value in _fields(view):
        if number == 7:
            graphs.append(_message(value))
        elif number == 8:
            opsets.append(_opset(_message(value)))
        elif number in (20, 25):
            raise PartError("an ONNX file with functions or training information: expected operators only")
    if len(graphs) != 1 or len(opsets) != 1:
        raise PartError("not an ONNX file with one graph and one opset")
    if opsets[0] not in ALLOWED_OPSETS:
        raise PartError(
            f"an ONNX file of opset {opsets[0]}: expected {ALLOWED_OPSETS[0]} to {ALLOWED_OPSETS[-1]}"
        )
    ops = sorted(set(_ops(graphs[0])))
    foreign = [op for op in ops if op not in ALLOWED_OPERATORS]
    if foreign:
        raise PartError(f"an ONNX file with unsupported operators: {', '.join(foreign[:5])[:100]}")
    return OnnxRequirements(opsets[0], tuple(ops))


def _ops(graph: memoryview) -> Iterator[str]:
    nodes = 0
    for number, value in _fields(graph):
        if number == 1:
            nodes += 1
            if nodes > _MAX_NODES:
                raise PartError(f"an ONNX file of more than {_MAX_NODES} nodes")
            yield _op(_message(value))
        elif number == 5:
            _refuse_external(_message(value))
        elif number == 15:
            raise PartError("an ONNX file with sparse tensors: expected dense ones")


def _op(node: memoryview) -> str:
    op = ""
    for number, value in _fields(node):
        if number == 4:
            op = bytes(_message(value)[:64]).decode("ascii", "replace")
        elif number == 7 and len(_message(value)):
            raise PartError("an ONNX file with operators of another domain: expected the standard one")
        elif number == 5:
            _check_attribute(_message(value))
    return op if op.isidentifier() else "?"


def _check_attribute(attribute: memoryview) -> None:
    for number, value in _fields(attribute):
        if number in (6, 11):
            raise PartError("an ONNX file with a subgraph inside an operator")
        if number in (5, 10):
            _refuse_external(_message(value))
        if number in (22, 23):
            raise PartError("an ONNX file with sparse tensors: expected dense ones")


def _refuse_external(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number == 13 or (number == 14 and value != 0):
            raise PartError("an ONNX file with external data: expected all data in the file")


def _opset(message: memoryview) -> int:
    version = 0
    for number, value in _fields(message):
        if number == 1 and len(_message(value)) and bytes(_message(value)) != b"ai.onnx":
            raise PartError("an ONNX file of another domain: expected the standard one")
        if number == 2 and isinstance(value, int):
            version = value
    return version


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise PartError("not an ONNX file: a number where a message was expected")
    return value


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields of one message: (number, value)."""
    at = 0
    while at < len(view):
        tag, at = _varint(view, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(view, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(view, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise PartError("not an ONNX file: a field of an unknown kind")
        if at + size > len(view):
            raise PartError("not an ONNX file: it ends within a field")
        if kind == _BYTES:
            yield number, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte, at = view[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise PartError("not an ONNX file: it ends within a number")
