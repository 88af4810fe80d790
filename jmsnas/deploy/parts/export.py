"""A network as ONNX parts, BatchNorm folded: exported once, then cut between any two layers.

Cutting is a matter of milliseconds, so that another split needs no other export.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from jmsnas.errors import DeployError
from jmsnas.space import Block

Array = NDArray[np.float32]


class _EveryLayer(nn.Module):
    """A network whose outputs are those of all its layers."""

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
    """A network, or a branch of one, in ONNX.

    Attributes
    ----------
    module
        In evaluation mode, as it was trained: what the parts are compared with.
    model
        Its graph.
    values
        The value between layers: 0 is the input, n the output of layer n.
    shapes
        Their shapes, the batch first.
    blocks
        What each layer is, which torch parts tell; empty where nobody has said it.
    """

    module: nn.Sequential
    model: ir.Model
    values: tuple[ir.Value, ...]
    shapes: tuple[tuple[int, ...], ...]
    blocks: tuple[Block, ...] = ()

    @property
    def N(self) -> int:
        """How many layers it has."""
        return len(self.module)

    def cut(self, first: int, last: int) -> bytes | None:
        """Give layers first .. last, from 1, as an ONNX file; None where they hand on what they get."""
        entry, leaving = self.values[first - 1], self.values[last]
        if entry is leaving:
            return None
        graph = ir.convenience.extract(self.model.graph, [entry], [leaving])
        for node in graph:
            node.metadata_props.clear()  # stack traces of this machine
        proto = ir.to_proto(ir.Model(graph, ir_version=self.model.ir_version, producer_name="jmsnas"))
        # `extract` leaves them in the order of a set: the same part would get another digest each time.
        for values in (proto.graph.initializer, proto.graph.value_info):
            values.sort(key=lambda value: value.name)
        return cast(bytes, proto.SerializeToString(deterministic=True))

    def weights(self, first: int, last: int) -> bytes | None:
        """Give the weights of layers first .. last, from 1, as a safetensors file; None as `cut`.

        Named as `jmsnas.blocks.build` names them in a part of these blocks. Raises DeployError.
        """
        if self.values[first - 1] is self.values[last]:
            return None
        if not self.blocks:
            raise DeployError("a network of no blocks has no torch parts: serve it by onnxruntime")
        layers = nn.Sequential(*self.module[first - 1 : last])
        return save({name: tensor.contiguous() for name, tensor in layers.state_dict().items()})

    def words(self, first: int, last: int) -> tuple[str, ...]:
        """Tell the blocks of layers first .. last, from 1, as `Block.parse` reads them."""
        return tuple(str(block) for block in self.blocks[first - 1 : last])

    def run(self, x: Array, first: int = 1, last: int | None = None) -> Array:
        """Run layers first .. last of the network itself, in torch."""
        with torch.inference_mode():
            y: Tensor = self.module[first - 1 : last](torch.from_numpy(np.array(x)))
        return np.ascontiguousarray(y.numpy())


def export_model(model: nn.Sequential, input_shape: Sequence[int]) -> ExportedModel:
    """Export a network that is a row of layers.

    Parameters
    ----------
    network
        One module a layer; it is left as it was but for evaluation mode.
    input_shape
        Of one call, the batch first.
    """
    whole = _EveryLayer(fold_batch_norms(model.eval())).eval().requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter deprecates its own inner calls
        program = torch.onnx.export(whole, (torch.zeros(*input_shape),), dynamo=True, verbose=False)
    assert program is not None  # dynamo=True always gives a program
    return exported_model(model, program.model, input_shape)


def exported_model(module: nn.Sequential, model: ir.Model, input_shape: Sequence[int]) -> ExportedModel:
    """Bring a network together with the graph it was exported to, whose outputs are those of all layers."""
    module = module.eval()
    with torch.inference_mode():
        x = torch.zeros(*input_shape)
        shapes = [tuple(x.shape)]
        for layer in module:
            x = layer(x)
            shapes.append(tuple(x.shape))
    values = [model.graph.inputs[0]]
    for n, (leaving, layer) in enumerate(zip(model.graph.outputs, module, strict=True)):
        values.append(values[n] if isinstance(layer, nn.Identity) else leaving)
    return ExportedModel(module, model, tuple(values), tuple(shapes))


def fold_batch_norms(model: nn.Sequential) -> nn.Sequential:
    """Copy a network with each BatchNorm behind a convolution folded into it."""
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if isinstance(module, nn.Sequential):
            for n in range(len(module) - 1):
                convolution, norm = module[n], module[n + 1]
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[n] = fuse_conv_bn_eval(convolution, norm)
                    module[n + 1] = nn.Identity()
    return copied
