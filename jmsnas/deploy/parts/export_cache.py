"""A network in ONNX, kept on disk by what it was exported from: who starts again does not export again.

An export takes seconds, reading it back milliseconds, and its parts are the same to the last byte, so that
devices know them by their digests.
"""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import onnx
import onnx_ir as ir
from torch import nn

from jmsnas import blocks, operations
from jmsnas.deploy.parts import export
from jmsnas.deploy.parts.export import ExportedModel, export_model, exported_model
from jmsnas.files import make_folder, write_atomic


def cached_export(module: nn.Sequential, input_shape: Sequence[int], cache: Path) -> ExportedModel:
    """Export a network as `export_model` does, or read what an earlier call has left in `cache`.

    Raises StorageError when the cache cannot be written.
    """
    path = cache / f"{_digest(module, input_shape)}.onnx"
    if (model := _read(path)) is not None:
        return exported_model(module, model, input_shape)
    made = export_model(module, input_shape)
    for node in made.model.graph:
        node.metadata_props.clear()  # stack traces of this machine
    content = ir.to_proto(made.model).SerializeToString(deterministic=True)
    make_folder(cache)
    write_atomic(path, hashlib.sha256(content).digest() + content)
    return made


def _read(path: Path) -> ir.Model | None:
    """Read a kept export; None where there is none, or a damaged one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    return ir.from_proto(onnx.load_from_string(content[32:]))


def _digest(model: nn.Sequential, input_shape: Sequence[int]) -> str:
    """Digest of all that an export depends on: modules, weights, shape, versions, and how we export."""
    versions = "|".join(f"{name} {version(name)}" for name in ("torch", "onnxscript", "onnx", "onnx-ir"))
    digest = hashlib.sha256(f"{model}|{tuple(input_shape)}|{versions}|".encode())
    for module in (blocks, operations, export):  # a change there must not meet an old export
        digest.update(Path(str(module.__file__)).read_bytes())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
