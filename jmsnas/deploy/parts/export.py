"""Export a model to ONNX with BatchNorm folded, and cut it into parts between any two layers.

A cut takes milliseconds, so that another split needs no further export. An export takes seconds:
`cached_export` keeps it on disk. Its parts are reproducible to the last byte: devices know them by digest.
"""

import copy
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnx_ir as ir
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from jmsnas import blocks, operations
from jmsnas.arrays import Float32Array
from jmsnas.errors import DeployError
from jmsnas.files import make_folder, write_atomic
from jmsnas.space import Block


class _EveryLayer(nn.Module):
    """A model whose outputs are those of all its layers."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """A model, or a branch of one, in torch and in ONNX.

    Attributes
    ----------
    module
        In evaluation mode, as trained: the reference for the outputs of the parts.
    onnx_model
        Its ONNX model.
    values
        The ONNX value between layers: 0 is the input, n the output of layer n.
    shapes
        Their shapes, batch first.
    blocks
        The block of each layer, needed for torch parts; empty where they are unknown.
    """

    module: nn.Sequential
    onnx_model: ir.Model
    values: tuple[ir.Value, ...]
    shapes: tuple[tuple[int, ...], ...]
    blocks: tuple[Block, ...] = ()

    def onnx_part(self, first: int, last: int) -> bytes | None:
        """Return layers first .. last, from 1, as an ONNX file; None where they return their input."""
        source, target = self.values[first - 1], self.values[last]
        if source is target:
            return None
        graph = ir.convenience.extract(self.onnx_model.graph, [source], [target])
        _remove_metadata(graph)
        made = ir.Model(graph, ir_version=self.onnx_model.ir_version, producer_name="jmsnas")
        proto = ir.to_proto(made)
        # `extract` returns them in the order of a set: the digest of the same part would differ each time.
        for values in (proto.graph.initializer, proto.graph.value_info):
            values.sort(key=lambda value: value.name)
        return cast(bytes, proto.SerializeToString(deterministic=True))

    def weights_file(self, first: int, last: int) -> bytes | None:
        """Return the weights of layers first .. last, from 1, as a safetensors file; None as in `onnx_part`.

        The names are those of `jmsnas.blocks.build_module` for a part of these blocks. Raises DeployError.
        """
        if self.values[first - 1] is self.values[last]:
            return None
        if not self.blocks:
            raise DeployError("a model without blocks has no torch parts: serve it by onnxruntime")
        layers = nn.Sequential(*self.module[first - 1 : last])
        return save({name: tensor.contiguous() for name, tensor in layers.state_dict().items()})

    def run(self, x: Float32Array, first: int = 1, last: int | None = None) -> Float32Array:
        """Run layers first .. last of the torch model."""
        with torch.inference_mode():
            y: Tensor = self.module[first - 1 : last](torch.from_numpy(np.array(x)))
        return np.ascontiguousarray(y.numpy())


def export_model(module: nn.Sequential, input_shape: Sequence[int]) -> ExportedModel:
    """Export a sequence of layers to ONNX, for inputs of `input_shape`, batch first.

    `module` has one module a layer; it is set to evaluation mode, and not changed otherwise.
    """
    whole = _EveryLayer(_fold_batch_norms(module.eval())).eval().requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx deprecates functions that it calls itself
        program = torch.onnx.export(whole, (torch.zeros(*input_shape),), dynamo=True, verbose=False)
    assert program is not None  # dynamo=True always returns a program
    return _exported_model(module, program.model)


def _exported_model(module: nn.Sequential, onnx_model: ir.Model) -> ExportedModel:
    """Combine a torch model with its ONNX model, whose outputs are those of all layers."""
    values = [onnx_model.graph.inputs[0]]
    for n, (output, layer) in enumerate(zip(onnx_model.graph.outputs, module, strict=True)):
        values.append(values[n] if isinstance(layer, nn.Identity) else output)
    shapes = tuple(cast(ir.Shape, value.shape).numpy() for value in values)
    return ExportedModel(module.eval(), onnx_model, tuple(values), shapes)


def _fold_batch_norms(module: nn.Sequential) -> nn.Sequential:
    """Return a copy of a model with each BatchNorm behind a convolution folded into it."""
    copied = copy.deepcopy(module)
    for inner in copied.modules():
        if isinstance(inner, nn.Sequential):
            for n in range(len(inner) - 1):
                convolution, norm = inner[n], inner[n + 1]
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    inner[n] = fuse_conv_bn_eval(convolution, norm)
                    inner[n + 1] = nn.Identity()
    return copied


def cached_export(module: nn.Sequential, input_shape: Sequence[int], cache: Path) -> ExportedModel:
    """Export a model as `export_model` does, or read the result of an earlier call from the folder `cache`.

    Raises StorageError when the cache cannot be written.
    """
    path = cache / f"{_digest(module, input_shape)}.onnx"
    if (found := _read_cached(path)) is not None:
        return _exported_model(module, found)
    made = export_model(module, input_shape)
    _remove_metadata(made.onnx_model.graph)
    content = ir.to_proto(made.onnx_model).SerializeToString(deterministic=True)
    make_folder(cache)
    write_atomic(path, hashlib.sha256(content).digest() + content)
    return made


def _remove_metadata(graph: ir.Graph) -> None:
    """Remove stack traces of this machine from the nodes."""
    for node in graph:
        node.metadata_props.clear()


def _read_cached(path: Path) -> ir.Model | None:
    """Read a cached export; None where it is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    return ir.from_proto(onnx.load_from_string(content[32:]))


def _digest(module: nn.Sequential, input_shape: Sequence[int]) -> str:
    """Digest of everything that an export depends on: modules, weights, shape, versions, and our own code."""
    versions = "|".join(f"{name} {version(name)}" for name in ("torch", "onnxscript", "onnx", "onnx-ir"))
    digest = hashlib.sha256(f"{module}|{tuple(input_shape)}|{versions}|".encode())
    for source in (blocks.__file__, operations.__file__, __file__):  # a change there invalidates the cache
        digest.update(Path(source).read_bytes())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
