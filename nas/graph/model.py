"""A fixed network as units that are timed, placed and sent whole: what `jmsnas split` cuts.

A unit is one operator that computes (a convolution, a dense layer, a pooling, an addition) with the
normalisation and activation behind it; a block of ours is one unit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.cost import Operator, operators
from jmsnas.errors import InputError
from jmsnas.space import Block, Part


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of a network.

    Attributes
    ----------
    name
        What a person reads: a block, or the operators by name.
    takes
        Outputs it takes, by number: 0 is the raw input, n the output of the n-th unit.
    out_elements
        Numbers in its output, of one image.
    operators
        What it launches, for a simulated device; empty where it only looks at its input in another way.
    parameters
        Learned numbers, by which a device's memory is filled.
    block
        The block of ours that it is, which U(.) speaks for; else None.
    unknown
        Operators nobody has constants for: such a unit must be measured.
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
    """A network of N units in the order they run; `source` says where it is from, in words."""

    name: str
    input_shape: tuple[int, ...]
    units: tuple[Unit, ...]
    source: str

    def __post_init__(self) -> None:
        """Refuse a network of nothing."""
        if not self.units:
            raise InputError(f"network {self.name} computes nothing: expected one operator or more")

    @property
    def N(self) -> int:
        """Number of units."""
        return len(self.units)

    @property
    def input_elements(self) -> int:
        """Numbers in one raw input."""
        return math.prod(self.input_shape)

    @property
    def is_chain(self) -> bool:
        """Whether each unit takes just what the one before it gives."""
        return all(unit.inputs == (n,) for n, unit in enumerate(self.units))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(operator.macs for unit in self.units for operator in unit.operators)

    @property
    def parameters(self) -> int:
        """Learned numbers."""
        return sum(unit.parameters for unit in self.units)


def model_of_part(part: Part, name: str, source: str) -> Model:
    """Give blocks in a row as a model: a unit a block."""
    return model_of_blocks(part.blocks, tuple((n,) for n in range(len(part.blocks))), name, source)


def model_of_blocks(
    blocks: Sequence[Block], inputs: Sequence[tuple[int, ...]], name: str, source: str
) -> Model:
    """Give blocks that take outputs of one another as a model; several outputs are summed."""
    units = []
    for block, outputs in zip(blocks, inputs, strict=True):
        found = operators(block)
        learned = sum(operator.parameters for operator in found)
        units.append(Unit(str(block), outputs, block.layer.output_elements, found, learned, block))
    return Model(name, blocks[0].layer.input_shape, tuple(units), source)
