"""Export blocks and parts to ONNX: many in one export, split into one model each, cached by content.

`torch.onnx.export` takes about a second per call plus 0.1 s per block, so a few dozen blocks are exported
as one module with one input and one output each.
"""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import cast

import onnx_ir as ir
import torch
from torch import Tensor, nn

from jmsnas import blocks as blocks_file
from jmsnas import operations
from jmsnas.blocks import build_module, example_input
from jmsnas.files import make_folder, write_atomic
from jmsnas.progress import Progress, no_progress
from jmsnas.space import BlockOrPart, Part

# Large enough that the constant second per export is small, small enough that progress is shown.
_BLOCKS_PER_EXPORT = 32


def seeded_module(block: BlockOrPart, seed: int = 0) -> nn.Module:
    """Build the module of a block or part for timing, in evaluation mode with seeded weights.

    The weights keep activations near 1: values that vanish to denormal numbers would be ten times slower.
    The global generator of torch is not changed.
    """
    with torch.random.fork_rng(devices=[]):
        module = build_module(block).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, generator=generator)
            if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
                layer.running_mean.normal_(0.0, 0.1, generator=generator)
    return module.requires_grad_(False)


def export_to_onnx(
    blocks: Sequence[BlockOrPart],
    batch: int,
    cache: Path,
    seed: int = 0,
    progress: Progress = no_progress,
    dtype: str = "float32",
) -> list[bytes]:
    """Export blocks or parts to ONNX models with one input, one output and static shapes.

    Parameters
    ----------
    blocks, batch, seed
        Blocks and parts, with weights as in `seeded_module`; batch size; seed of the weights.
    cache
        Folder of exported models, named by the SHA-256 of everything they depend on.
    progress
        Called with the number of blocks exported.
    dtype
        Type of weights, input and output: `float32` or `float16`.

    Raises
    ------
    StorageError
        When the cache cannot be written.
    """
    paths = [cache / f"{_digest(block, batch, seed, dtype)}.onnx" for block in blocks]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    make_folder(cache)
    done = len(blocks) - len(missing)
    for chosen in _export_groups(missing, blocks):
        progress(done, len(blocks), "exporting blocks to ONNX")
        models = _export([blocks[index] for index in chosen], batch, seed, dtype)
        for index, model in zip(chosen, models, strict=True):
            write_atomic(paths[index], model)
        done += len(chosen)
    progress(len(blocks), len(blocks), "exporting blocks to ONNX")
    return [path.read_bytes() for path in paths]


def _export_groups(missing: Sequence[int], blocks: Sequence[BlockOrPart]) -> Iterator[list[int]]:
    """Group the indices so that no group has more than 32 blocks, unless it is a single larger part."""
    group: list[int] = []
    count = 0
    for index in missing:
        subject = blocks[index]
        size = len(subject.blocks) if isinstance(subject, Part) else 1
        if group and count + size > _BLOCKS_PER_EXPORT:
            yield group
            group, count = [], 0
        group.append(index)
        count += size
    if group:
        yield group


def _digest(block: BlockOrPart, batch: int, seed: int, dtype: str) -> str:
    versions = "|".join(f"{name} {version(name)}" for name in ("torch", "onnxscript", "onnx"))
    # The source files that determine the exported model: a change in them must invalidate the cache.
    files = (blocks_file.__file__, operations.__file__, __file__)
    sources = b"".join(Path(str(file)).read_bytes() for file in files)
    return hashlib.sha256(f"{block!r}|{batch}|{seed}|{dtype}|{versions}|".encode() + sources).hexdigest()


class _SideBySide(nn.Module):
    """Independent modules as one, with one input and one output each."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        return [part(x) for part, x in zip(self.parts, xs, strict=True)]


def _export(blocks: Sequence[BlockOrPart], batch: int, seed: int, dtype: str) -> list[bytes]:
    joined = _SideBySide([seeded_module(block, seed) for block in blocks]).eval()
    joined = joined.to(getattr(torch, dtype))
    inputs = [example_input(block, batch, seed).to(getattr(torch, dtype)) for block in blocks]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter calls its own deprecated functions
        program = torch.onnx.export(joined, (inputs,), dynamo=True, verbose=False)
    assert program is not None  # dynamo=True always returns a program
    model = program.model
    return [
        _extract(model, entry, leaving)
        for entry, leaving in zip(model.graph.inputs, model.graph.outputs, strict=True)
    ]


def _extract(model: ir.Model, entry: ir.Value, leaving: ir.Value) -> bytes:
    graph = ir.convenience.extract(model.graph, [entry], [leaving])
    for node in graph:
        node.metadata_props.clear()  # stack traces of this machine, larger than small blocks
    proto = ir.to_proto(ir.Model(graph, ir_version=model.ir_version))
    return cast(bytes, proto.SerializeToString())
