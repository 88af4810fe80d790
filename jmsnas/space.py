"""Search space: layers, their candidates, and blocks. Does not import torch.

N layers (including stem and head, which have one candidate each), at most R candidates per layer.
Source: JMSNAS paper, section IV-A; MBConv of MobileNetV2 (arXiv 1801.04381).
"""

import hashlib
import itertools
import math
import re
from dataclasses import dataclass

from jmsnas.errors import SpaceError
from jmsnas.operations import OPERATIONS, Operation, candidate_name, check_operation, parse_candidate_name

_SIZE = r"([1-9][0-9]{0,4})"
_BLOCK = re.compile(rf"(\w+) {_SIZE}->{_SIZE} {_SIZE}x{_SIZE}(?: /(2))?(?: h{_SIZE})?")
_ROLES = ("stem", "block", "head")


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """A candidate operation of a layer: an MBConv, Identity, a fixed stem or head, or a MobileNet block.

    `kernel_size` is odd (0: no convolution), `expansion` the ratio of the depthwise width to the input width
    (0: none), `shortcut` whether the input is added to the output, `op` a key of `OPERATIONS`.
    """

    kernel_size: int
    expansion: int
    shortcut: bool = False
    op: str = "mb"

    def __post_init__(self) -> None:
        """Raise SpaceError for values that no candidate can have."""
        check_operation(self.op, self.kernel_size, self.expansion, self.shortcut)

    @property
    def operation(self) -> Operation:
        """Properties shared by all candidates of its `op`."""
        return OPERATIONS[self.op]

    @property
    def name(self) -> str:
        """Canonical name, such as `mb_k5_e6_skip`, `identity`, `stem` or `mbv3_k5_hs_se_skip`."""
        return candidate_name(self.op, self.kernel_size, self.expansion, self.shortcut)

    @staticmethod
    def parse(name: str) -> "Candidate":
        """Parse a candidate name. Raises SpaceError."""
        return Candidate(*parse_candidate_name(name))


IDENTITY, STEM, HEAD = Candidate(0, 0, op="identity"), Candidate(3, 0, op="stem"), Candidate(1, 0, op="head")


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """Geometry of a layer; height and width are those of its input.

    `hidden_channels` is the intermediate width if it is no multiple of the input width (for example that of
    a head's 1x1 convolution), else 0; a head has `out_channels` logits.
    """

    in_channels: int
    out_channels: int
    stride: int
    height: int
    width: int
    role: str = "block"
    hidden_channels: int = 0

    def __post_init__(self) -> None:
        """Raise SpaceError for values that no layer can have."""
        sizes = (self.in_channels, self.out_channels, self.height, self.width)
        wrong = min(sizes) < 1 or max(*sizes, self.hidden_channels) > 1 << 16 or self.hidden_channels < 0
        if wrong or self.stride not in (1, 2) or self.role not in _ROLES:
            raise SpaceError(
                f"a layer needs channels, height and width from 1 to 65536, stride 1 or 2 and a role of "
                f"{', '.join(_ROLES)}, got {self.in_channels}->{self.out_channels} channels, "
                f"{self.height}x{self.width}, stride {self.stride}, role {self.role!r}, "
                f"hidden_channels {self.hidden_channels}"
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one input image."""
        return (self.in_channels, self.height, self.width)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of one output image; (classes,) for a head."""
        if self.role == "head":
            return (self.out_channels,)
        return (self.out_channels, -(-self.height // self.stride), -(-self.width // self.stride))

    @property
    def output_elements(self) -> int:
        """Number of elements of one output image."""
        return math.prod(self.output_shape)

    @property
    def keeps_shape(self) -> bool:
        """Whether output and input have the same shape, as a shortcut and Identity need."""
        return self.role == "block" and self.stride == 1 and self.in_channels == self.out_channels

    def __str__(self) -> str:
        """Format as `16->24 8x8 /2`, followed by ` h128` if there are hidden channels."""
        stride = f" /{self.stride}" if self.stride > 1 else ""
        hidden = f" h{self.hidden_channels}" if self.hidden_channels else ""
        return f"{self.in_channels}->{self.out_channels} {self.height}x{self.width}{stride}{hidden}"


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """A candidate at the geometry of a layer: the unit of timing, prediction, training and deployment."""

    candidate: Candidate
    layer: Layer

    def __post_init__(self) -> None:
        """Raise SpaceError for a candidate that the layer cannot have."""
        if reason := _refusal(self.candidate, self.layer):
            raise SpaceError(reason)

    @property
    def middle_channels(self) -> int:
        """Width of the depthwise convolution, or of the input of a head's last dense layer."""
        return self.layer.hidden_channels or self.layer.in_channels * max(self.candidate.expansion, 1)

    @staticmethod
    def parse(text: str) -> "Block":
        """Parse the text that `str` gives for a block. Raises SpaceError."""
        match = _BLOCK.fullmatch(text)
        if not match:
            raise SpaceError(f"cannot read the block {text!r}: expected one such as 'mb_k5_e6 16->24 8x8 /2'")
        candidate = Candidate.parse(match[1])
        in_channels, out_channels, height, width, stride, hidden = (int(n or 0) for n in match.groups()[1:])
        role = candidate.operation.role
        return Block(candidate, Layer(in_channels, out_channels, stride or 1, height, width, role, hidden))

    def __str__(self) -> str:
        """Format as `mb_k5_e6 16->24 8x8 /2`, which `parse` reads."""
        return f"{self.candidate.name} {self.layer}"


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Consecutive blocks, run as one call; each takes the output of the one before."""

    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        """Raise SpaceError for blocks whose shapes do not match."""
        if not self.blocks:
            raise SpaceError("a part needs one block or more, got none")
        for one, after in itertools.pairwise(self.blocks):
            if one.layer.output_shape != after.layer.input_shape:
                raise SpaceError(
                    f"{after} cannot follow {one}: expected input shape {one.layer.output_shape}, got "
                    f"{after.layer.input_shape}"
                )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one input image."""
        return self.blocks[0].layer.input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output image, that of the last block."""
        return self.blocks[-1].layer.output_shape

    def __str__(self) -> str:
        """Format as `12 blocks, stem 1->16 8x8 to head 32->10 2x2 h128 (3f2a91c0)`, with a hash of all."""
        digits = hashlib.sha256("\n".join(str(block) for block in self.blocks).encode()).hexdigest()[:8]
        count = len(self.blocks)
        ends = f"{self.blocks[0]} to {self.blocks[-1]}" if count > 1 else f"{self.blocks[0]}"
        return f"{count} block{'s' * (count > 1)}, {ends} ({digits})"


BlockOrPart = Block | Part


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """N layers and the candidates of each: `choices[n][i]` is candidate i of layer n.

    On a mesh `branches` holds the layer indices of each branch. The layers before the branches are the trunk,
    whose output is the input of each branch; those after are the tail, whose input is the sum of the branch
    outputs.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    layers: tuple[Layer, ...]
    choices: tuple[tuple[Candidate, ...], ...]
    branches: tuple[tuple[int, ...], ...] = ()

    @property
    def main_path(self) -> tuple[int, ...]:
        """Indices of the layers in no branch: trunk and tail."""
        inside = {n for branch in self.branches for n in branch}
        return tuple(n for n in range(self.N) if n not in inside)

    @property
    def trunk(self) -> int:
        """Number of layers in the trunk; all layers if there are no branches."""
        return self.branches[0][0] if self.branches else self.N

    @property
    def N(self) -> int:
        """Number of layers, including stem and head."""
        return len(self.layers)

    @property
    def R(self) -> int:
        """Largest number of candidates of a layer."""
        return max(len(choices) for choices in self.choices)

    @property
    def input_elements(self) -> int:
        """Number of elements of one input image."""
        return math.prod(self.input_shape)

    def blocks(self) -> tuple[Block, ...]:
        """List the distinct (candidate, geometry) pairs, in order of first appearance."""
        pairs = ((c, layer) for layer, cs in zip(self.layers, self.choices, strict=True) for c in cs)
        return tuple(dict.fromkeys(Block(candidate, layer) for candidate, layer in pairs))


def valid_candidates(layer: Layer, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Return the candidates that `layer` can have: of the paper's, all 13 if it keeps its shape, else 6."""
    return tuple(candidate for candidate in candidates if not _refusal(candidate, layer))


def _refusal(candidate: Candidate, layer: Layer) -> str:
    """Return why a layer cannot have a candidate; empty if it can."""
    operation = candidate.operation
    if (candidate.shortcut or candidate.op == "identity") and not layer.keeps_shape:
        return f"{candidate.name} needs a layer that keeps its shape, got {layer}"
    if layer.role != operation.role:
        return f"{candidate.name} needs a layer of role {operation.role}, got role {layer.role}"
    if operation.hidden != (layer.hidden_channels > 0):
        needed = "hidden_channels of 1 or more" if operation.hidden else "no hidden_channels"
        return f"{candidate.name} needs {needed}, got {layer.hidden_channels}"
    return ""
