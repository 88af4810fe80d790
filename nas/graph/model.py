"""Computational graph of a given model as units, the smallest parts that a split may place.

A unit is one operator that computes (a convolution, a dense layer, a pooling, an addition) with the
normalisation and activation after it; a block of a search space is one unit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.cost import Operator, operators
from jmsnas.errors import InputError
from jmsnas.space import Block, Part


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of a model.

    Attributes
    ----------
    name
        Readable name: a block, or the operators by name.
    inputs
        Outputs it reads, by number: 0 is the raw input, n the output of the n-th unit.
    output_elements
        Elements of its output, for one image.
    operators
        Operators it launches, for simulated devices; empty for a view of its input.
    parameters
        Number of learned parameters.
    block
        The search-space block that the unit is, which U(.) can predict; else None.
    unknown
        Operators without known cost: such a unit must be measured.
    """

    name: str
    inputs: tuple[int, ...]
    output_elements: int
    operators: tuple[Operator, ...]
    parameters: int
    block: Block | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """A model of N units in execution order; `source` describes where it comes from."""

    name: str
    input_shape: tuple[int, ...]
    units: tuple[Unit, ...]
    source: str

    def __post_init__(self) -> None:
        """Refuse a model without units."""
        if not self.units:
            raise InputError(f"model {self.name} has no operators: expected one or more")

    @property
    def N(self) -> int:
        """Number of units."""
        return len(self.units)

    @property
    def input_elements(self) -> int:
        """Number of elements of one raw input."""
        return math.prod(self.input_shape)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(operator.macs for unit in self.units for operator in unit.operators)

    @property
    def parameters(self) -> int:
        """Number of learned parameters."""
        return sum(unit.parameters for unit in self.units)


def model_of_part(part: Part, name: str, source: str) -> Model:
    """Make the model of a chain of blocks, one unit per block."""
    return model_of_blocks(part.blocks, tuple((n,) for n in range(len(part.blocks))), name, source)


def model_of_blocks(
    blocks: Sequence[Block], inputs: Sequence[tuple[int, ...]], name: str, source: str
) -> Model:
    """Make the model of blocks with given inputs, one unit per block; several inputs are summed."""
    units = []
    for block, outputs in zip(blocks, inputs, strict=True):
        found = operators(block)
        learned = sum(operator.parameters for operator in found)
        units.append(Unit(str(block), outputs, block.layer.output_elements, found, learned, block))
    return Model(name, blocks[0].layer.input_shape, tuple(units), source)
