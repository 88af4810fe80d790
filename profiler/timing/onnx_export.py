"""Blocks as ONNX models: many in one export, cut apart, and kept on disk by content.

`torch.onnx.export` takes about a second whatever it is given and about 0.1 s a block on top, so a few dozen
blocks go through it as one module with an input and an output each.
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

# Large enough that the fixed second does not matter, small enough that progress is seen.
_BLOCKS_AN_EXPORT = 32


def seeded_module(block: BlockOrPart, seed: int = 0) -> nn.Module:
    """Make the module of a block or a part for timing: evaluation mode, weights that keep activations near 1.

    Values that fade to denormal numbers would be timed ten times too slow. The global generator of torch is
    left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        module = build_module(block).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight, generator=generator)
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
                part.running_mean.normal_(0.0, 0.1, generator=generator)
    return module.requires_grad_(False)


def export_to_onnx(
    blocks: Sequence[BlockOrPart],
    batch: int,
    cache: Path,
    seed: int = 0,
    progress: Progress = no_progress,
    dtype: str = "float32",
) -> list[bytes]:
    """ONNX models of blocks or parts, one input and one output each, static shapes.

    Parameters
    ----------
    blocks
        What to export; weights as `seeded_module` draws them.
    batch
        Images a call.
    cache
        Folder of exported models, named by the SHA-256 of all that they depend on.
    seed
        Seed of the weights.
    progress
        Called with the number of blocks that are ready.
    dtype
        Of weights, input and output: `float32` or `float16`.

    Raises
    ------
    StorageError
        When the cache cannot be written.
    """
    paths = [cache / f"{_digest(block, batch, seed, dtype)}.onnx" for block in blocks]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    make_folder(cache)
    done = len(blocks) - len(missing)
    for chosen in _batches(missing, blocks):
        progress(done, len(blocks), "exporting blocks to ONNX")
        models = _export([blocks[index] for index in chosen], batch, seed, dtype)
        for index, model in zip(chosen, models, strict=True):
            write_atomic(paths[index], model)
        done += len(chosen)
    progress(len(blocks), len(blocks), "exporting blocks to ONNX")
    return [path.read_bytes() for path in paths]


def _batches(missing: Sequence[int], blocks: Sequence[BlockOrPart]) -> Iterator[list[int]]:
    """Cut the indices so that no piece, but one of a single part, has more than 32 blocks."""
    piece: list[int] = []
    held = 0
    for index in missing:
        subject = blocks[index]
        size = len(subject.blocks) if isinstance(subject, Part) else 1
        if piece and held + size > _BLOCKS_AN_EXPORT:
            yield piece
            piece, held = [], 0
        piece.append(index)
        held += size
    if piece:
        yield piece


def _digest(block: BlockOrPart, batch: int, seed: int, dtype: str) -> str:
    versions = "|".join(f"{name} {version(name)}" for name in ("torch", "onnxscript", "onnx"))
    # The files that decide what is exported: a change there must not meet an old model.
    files = (blocks_file.__file__, operations.__file__, __file__)
    sources = b"".join(Path(str(file)).read_bytes() for file in files)
    return hashlib.sha256(f"{block!r}|{batch}|{seed}|{dtype}|{versions}|".encode() + sources).hexdigest()


class _SideBySide(nn.Module):
    """Blocks that share nothing: as many outputs as inputs."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        return [part(x) for part, x in zip(self.parts, xs, strict=True)]


def _export(blocks: Sequence[BlockOrPart], batch: int, seed: int, dtype: str) -> list[bytes]:
    together = _SideBySide([seeded_module(block, seed) for block in blocks]).eval()
    together = together.to(getattr(torch, dtype))
    inputs = [example_input(block, batch, seed).to(getattr(torch, dtype)) for block in blocks]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter deprecates its own inner calls
        program = torch.onnx.export(together, (inputs,), dynamo=True, verbose=False)
    assert program is not None  # dynamo=True always gives a program
    model = program.model
    return [
        _cut(model, entry, leaving)
        for entry, leaving in zip(model.graph.inputs, model.graph.outputs, strict=True)
    ]


def _cut(model: ir.Model, entry: ir.Value, leaving: ir.Value) -> bytes:
    graph = ir.convenience.extract(model.graph, [entry], [leaving])
    for node in graph:
        node.metadata_props.clear()  # stack traces of this machine, larger than small blocks
    proto = ir.to_proto(ir.Model(graph, ir_version=model.ir_version))
    return cast(bytes, proto.SerializeToString())
