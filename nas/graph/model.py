"""Computational graph of a given model as units, the smallest parts that a split may place.

A unit is one operator that computes (a convolution, a dense layer, a pooling, an addition) with the
normalisation and activation after it; a block of a search space is one unit.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.cost import Operator, operators
from jmsnas.errors import InputError
from jmsnas.space import Block, Part

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Tensor:
    """Name, shape and dtype of a tensor; the dtype by its name in numpy or ml_dtypes, as `float16`."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the elements; of 4 bits each, two share a byte."""
        bits = re.search("[0-9]+", self.dtype)
        return -(-self.elements * (int(bits[0]) if bits else 8) // 8)


def is_real(dtype: str) -> bool:
    """Whether a dtype is of real numbers."""
    return dtype.startswith(("float", "bfloat"))


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of a model.

    Attributes
    ----------
    name
        Readable name: a block, or the operators by name.
    inputs
        Outputs it reads, by number: 0 is the raw input, n the output of the n-th unit.
    outputs
        Tensors that it makes and other units read, for one call of the model.
    operators
        Operators it launches, for simulated devices; empty for a view of its input.
    weights
        Its learned tensors. Units that share one name it alike.
    peak_bytes
        Most bytes of the inputs and outputs of one operator.
    block
        The search-space block that the unit is, which U(.) can predict; else None.
    unknown
        Operators without known cost: such a unit must be measured.
    attributes
        Attributes of its operators that change their latency but no shape, as text.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[Tensor, ...]
    operators: tuple[Operator, ...] = ()
    weights: tuple[Tensor, ...] = ()
    peak_bytes: int = 0
    block: Block | None = None
    unknown: tuple[str, ...] = ()
    attributes: str = ""

    @property
    def output_elements(self) -> int:
        """Number of elements of its outputs."""
        return sum(tensor.elements for tensor in self.outputs)

    @property
    def output_bytes(self) -> int:
        """Bytes of its outputs."""
        return sum(tensor.size_bytes for tensor in self.outputs)


@dataclass(frozen=True, slots=True)
class Model:
    """A model of N units in execution order; `source` describes where it comes from.

    `input_shape` and `input_dtype` are those of one raw input, of which a call takes `batch`.
    """

    name: str
    input_shape: tuple[int, ...]
    units: tuple[Unit, ...]
    source: str
    batch: int = 1
    input_dtype: str = "float32"

    def __post_init__(self) -> None:
        """Refuse a model without units."""
        if not self.units:
            raise InputError(f"model {self.name} has no operators: expected one or more")

    @property
    def N(self) -> int:
        """Number of units."""
        return len(self.units)

    @property
    def raw_input(self) -> Tensor:
        """The raw input of one call."""
        return Tensor("input", (self.batch, *self.input_shape), self.input_dtype)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call."""
        return sum(operator.macs for unit in self.units for operator in unit.operators)

    @property
    def parameters(self) -> int:
        """Number of learned parameters; of a shared weight once."""
        weights = {tensor.name: tensor for unit in self.units for tensor in unit.weights}
        return sum(tensor.elements for tensor in weights.values())


def model_of_part(part: Part, name: str, source: str) -> Model:
    """Make the model of a chain of blocks, one unit per block."""
    return model_of_blocks(part.blocks, tuple((n,) for n in range(len(part.blocks))), name, source)


def model_of_blocks(
    blocks: Sequence[Block], inputs: Sequence[tuple[int, ...]], name: str, source: str
) -> Model:
    """Make the model of blocks with given inputs, one unit per block; several inputs are summed."""
    units: list[Unit] = []
    for block, outputs in zip(blocks, inputs, strict=True):
        found, n = operators(block), len(units) + 1
        learned = sum(operator.parameters for operator in found)
        unit = Unit(
            name=str(block),
            inputs=outputs,
            outputs=(Tensor(f"block {n}", block.layer.output_shape),),
            operators=found,
            weights=(Tensor(f"weights {n}", (learned,)),),
            peak_bytes=_FLOAT32_BYTES * max((op.read + op.written for op in found), default=0),
            block=block,
        )
        units.append(unit)
    return Model(name, blocks[0].layer.input_shape, tuple(units), source)
