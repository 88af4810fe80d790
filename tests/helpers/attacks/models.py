"""Malicious models, each made from a valid one."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper

CANARY = Path("/tmp/jmsnas-canary")


class Canary:
    """A pickle that creates a file when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (CANARY,))


def _changed(change: Callable[[onnx.ModelProto], None]) -> Callable[[bytes], bytes]:
    def make(honest: bytes) -> bytes:
        model = onnx.load_from_string(honest)
        change(model)
        return model.SerializeToString()

    return make


def _external(location: str) -> Callable[[bytes], bytes]:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return _changed(change)


def _external_in_attribute(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["extra"], value=tensor))


def _subgraph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", inner))


def _function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="jmsnas")


def _two_graphs(honest: bytes) -> bytes:
    return honest + onnx.ModelProto(graph=onnx.load_from_string(honest).graph).SerializeToString()


def _zip(honest: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("../../model.onnx", honest)
    return content.getvalue()


def _tar(honest: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../model.onnx"))
    return content.getvalue()


def _torch_save(honest: bytes) -> bytes:
    content = io.BytesIO()
    torch.save({"weights": torch.zeros(3)}, content)
    return content.getvalue()


def _other_weights(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.raw_data = bytes(len(tensor.raw_data))


MODELS: dict[str, Callable[[bytes], bytes]] = {
    "pickle": lambda honest: pickle.dumps(Canary()),
    "zip": _zip,
    "tar": _tar,
    "torch.save": _torch_save,
    "text": lambda honest: b"import os; os.system('id')",
    "cut short": lambda honest: honest[: len(honest) // 2],
    "external ../": _external("../../../etc/passwd"),
    "external absolute": _external("/etc/passwd"),
    "external in an attribute": _changed(_external_in_attribute),
    "subgraph": _changed(_subgraph),
    "function": _changed(_function),
    "training": _changed(lambda model: model.training_info.add()),
    "two graphs": _two_graphs,
    "foreign operator": _changed(lambda model: setattr(model.graph.node[0], "op_type", "Loop")),
    "foreign domain": _changed(lambda model: setattr(model.graph.node[0], "domain", "com.microsoft")),
    "old opset": _changed(lambda model: setattr(model.opset_import[0], "version", 9)),
    "other opset than signed": _changed(lambda model: setattr(model.opset_import[0], "version", 21)),
    "sparse": _changed(lambda model: model.graph.sparse_initializer.add()),
    "other weights": _changed(_other_weights),
}
