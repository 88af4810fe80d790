"""Architecture of a torch part, parsed from the block texts of its manifest, without torch.

Whatever can be refused by arithmetic is refused before any weights are sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jmsnas.cost import operators
from jmsnas.errors import PartError, SpaceError
from jmsnas.space import Block, Part

MAX_FILE_BYTES = 1 << 30
MAX_BLOCKS, _MAX_TEXT = 256, 80
# JSON header of a weights file: about 100 bytes a tensor.
MAX_WEIGHTS_HEADER_BYTES = 1 << 20
# Largest tensor between two operators.
_MAX_ELEMENTS = 1 << 28


@dataclass(frozen=True, slots=True)
class PartArchitecture:
    """Blocks of a part in execution order, and the size of their weights.

    Attributes
    ----------
    part
        The blocks; each takes the output of the one before.
    weights_bytes
        Of all tensors that `jmsnas.blocks.build_module` makes for them: float32, and a counter of eight bytes
        for each BatchNorm.
    """

    part: Part
    weights_bytes: int


def parse_architecture(
    texts: Sequence[str], input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> PartArchitecture:
    """Parse block texts such as `mb_k5_e6 16->24 8x8 /2` (`str(block)`), and check shapes and sizes.

    The shapes are those of one call, batch first. Raises PartError for too many blocks, an unknown block,
    blocks that do not fit together, other shapes than these, or weights and tensors above the limits.
    """
    if not 0 < len(texts) <= MAX_BLOCKS:
        raise PartError(f"a torch part of {len(texts)} blocks: expected 1 to {MAX_BLOCKS}")
    if any(len(text) > _MAX_TEXT for text in texts):
        raise PartError("a torch part with an unknown block: update jmsnas on this device")
    try:
        part = Part(tuple(Block.parse(text) for text in texts))
    except SpaceError:
        raise PartError(
            "a torch part with an unknown block, or one that does not fit the block before: send it again"
        ) from None
    if (input_shape[1:], output_shape[1:]) != (part.input_shape, part.output_shape) or (
        input_shape[0] != output_shape[0]
    ):
        raise PartError("a torch part whose blocks have another input or output shape than was signed")
    found = operators(part)
    if not found:
        raise PartError("a torch part that computes nothing: a device that only forwards has no part")
    if input_shape[0] * max(max(op.read, op.written) for op in found) > _MAX_ELEMENTS:
        raise PartError(f"a torch part with a tensor of more than {_MAX_ELEMENTS} elements inside")
    # A BatchNorm has as many statistics as parameters, and counts its batches.
    norms = [op.parameters for op in found if op.kind == "norm"]
    weights_bytes = 4 * (sum(op.parameters for op in found) + sum(norms)) + 8 * len(norms)
    if weights_bytes > MAX_FILE_BYTES:
        raise PartError(f"a torch part whose weights take more than {MAX_FILE_BYTES} bytes")
    return PartArchitecture(part, weights_bytes)
