"""A torch part's architecture as its manifest tells it: blocks in words, as data. No torch here.

All that can be refused by arithmetic is refused before a byte of weights travels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.cost import operators
from jmsnas.deploy.parts.manifest_fields import MAX_BLOB_BYTES
from jmsnas.errors import PartError, SpaceError
from jmsnas.space import Block, Part

MAX_BLOCKS, _MOST_WORDS = 256, 80
# Names, shapes and places of the weights, in JSON before them: about 100 bytes a tensor.
MAX_WEIGHTS_HEADER_BYTES = 1 << 20
# No tensor between two operators is larger, numbers.
_MOST_NUMBERS = 1 << 28


@dataclass(frozen=True, slots=True)
class PartArchitecture:
    """The blocks of a part, in the order they run, and what their weights take.

    Attributes
    ----------
    part
        The blocks, each taking what the one before gives.
    weights_bytes
        Of all tensors that `jmsnas.blocks.build` makes for them: float32, and a counter of eight bytes a
        BatchNorm.
    """

    part: Part
    weights_bytes: int


def parse_architecture(
    words: Sequence[str], input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> PartArchitecture:
    """Read blocks as `str` writes them, such as `mb_k5_e6 16->24 8x8 /2`.

    Parameters
    ----------
    words
        A block each.
    input_shape, output_shape
        Of one call, the batch first: what the blocks must take and give.

    Raises
    ------
    PartError
        For too many blocks, one that cannot be, blocks that do not follow one another, other shapes than
        these, or weights and tensors larger than any part has.
    """
    if not 0 < len(words) <= MAX_BLOCKS:
        raise PartError(f"a torch part of {len(words)} blocks: expected 1 to {MAX_BLOCKS}")
    if any(len(text) > _MOST_WORDS for text in words):
        raise PartError("a torch part with a block that nobody knows: update jmsnas on this device")
    try:
        part = Part(tuple(Block.parse(text) for text in words))
    except SpaceError:
        raise PartError(
            "a torch part with a block that nobody knows, or that cannot follow the one before: send it again"
        ) from None
    if (input_shape[1:], output_shape[1:]) != (part.input_shape, part.output_shape) or (
        input_shape[0] != output_shape[0]
    ):
        raise PartError("a torch part whose blocks take or give another shape than was signed")
    found = operators(part)
    if not found:
        raise PartError("a torch part that computes nothing: a device that passes on has no part")
    if input_shape[0] * max(max(op.read, op.written) for op in found) > _MOST_NUMBERS:
        raise PartError(f"a torch part with a tensor of more than {_MOST_NUMBERS} numbers inside")
    # A BatchNorm has as many statistics as parameters, and counts its batches.
    norms = [op.parameters for op in found if op.kind == "norm"]
    weights_bytes = 4 * (sum(op.parameters for op in found) + sum(norms)) + 8 * len(norms)
    if weights_bytes > MAX_BLOB_BYTES:
        raise PartError(f"a torch part whose weights take more than {MAX_BLOB_BYTES} bytes")
    return PartArchitecture(part, weights_bytes)
