"""The search space as data: candidates, layer geometry, presets. No torch here.

N layers (stem and head among them, one candidate each), R candidates at most a layer.
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
    """One operation a layer may be: an MBConv, Identity, a fixed stem or head, or a block of a MobileNet.

    `kernel_size` is odd (0 where nothing is convolved), `expansion` the ratio of the depthwise width to the
    input width (0 where there is none), `shortcut` whether the input is added to the output, `op` a key of
    `OPERATIONS`.
    """

    kernel_size: int
    expansion: int
    shortcut: bool = False
    op: str = "mb"

    def __post_init__(self) -> None:
        """Refuse what no block can be."""
        check_operation(self.op, self.kernel_size, self.expansion, self.shortcut)

    @property
    def operation(self) -> Operation:
        """What all candidates of its `op` have in common."""
        return OPERATIONS[self.op]

    @property
    def name(self) -> str:
        """The one name it has everywhere: `mb_k5_e6_skip`, `identity`, `stem`, `mbv3_k5_hs_se_skip`."""
        return candidate_name(self.op, self.kernel_size, self.expansion, self.shortcut)

    @staticmethod
    def parse(name: str) -> "Candidate":
        """Read a name back. Raises SpaceError."""
        return Candidate(*parse_candidate_name(name))


IDENTITY, STEM, HEAD = Candidate(0, 0, op="identity"), Candidate(3, 0, op="stem"), Candidate(1, 0, op="head")


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """The geometry of a layer; height and width are the input's.

    `hidden_channels` is the width in the middle where it is no multiple of the input's (that of a head's
    1x1 convolution, say), else 0; a head ends in `out_channels` logits.
    """

    in_channels: int
    out_channels: int
    stride: int
    height: int
    width: int
    role: str = "block"
    hidden_channels: int = 0

    def __post_init__(self) -> None:
        """Refuse what no layer can be."""
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
        """(channels, height, width) of one output image; (classes,) behind a head."""
        if self.role == "head":
            return (self.out_channels,)
        return (self.out_channels, -(-self.height // self.stride), -(-self.width // self.stride))

    @property
    def output_elements(self) -> int:
        """How many numbers one output image holds."""
        return math.prod(self.output_shape)

    @property
    def keeps_shape(self) -> bool:
        """Whether output and input have the same shape, so that a shortcut or Identity can be."""
        return self.role == "block" and self.stride == 1 and self.in_channels == self.out_channels

    def __str__(self) -> str:
        """Print as `16->24 8x8 /2`, with ` h128` behind it where there are hidden channels."""
        stride = f" /{self.stride}" if self.stride > 1 else ""
        hidden = f" h{self.hidden_channels}" if self.hidden_channels else ""
        return f"{self.in_channels}->{self.out_channels} {self.height}x{self.width}{stride}{hidden}"


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """A candidate at a layer's geometry: what is timed, predicted, trained and sent."""

    candidate: Candidate
    layer: Layer

    def __post_init__(self) -> None:
        """Refuse a candidate that cannot stand at the layer."""
        reason = _refusal(self.candidate, self.layer)
        if reason:
            raise SpaceError(reason)

    @property
    def middle_channels(self) -> int:
        """Width of the depthwise convolution, or of what stands before a head's logits."""
        return self.layer.hidden_channels or self.layer.in_channels * max(self.candidate.expansion, 1)

    @staticmethod
    def parse(text: str) -> "Block":
        """Read back what `str` gives of a block. Raises SpaceError."""
        match = _BLOCK.fullmatch(text)
        if not match:
            raise SpaceError(f"cannot read the block {text!r}: expected one such as 'mb_k5_e6 16->24 8x8 /2'")
        candidate = Candidate.parse(match[1])
        in_channels, out_channels, height, width, stride, hidden = (int(n or 0) for n in match.groups()[1:])
        role = candidate.operation.role
        return Block(candidate, Layer(in_channels, out_channels, stride or 1, height, width, role, hidden))

    def __str__(self) -> str:
        """Print as `mb_k5_e6 16->24 8x8 /2`, which `parse` reads back."""
        return f"{self.candidate.name} {self.layer}"


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Several blocks in a row, run as one call; each takes what the one before it gives."""

    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        """Refuse blocks that cannot follow one another."""
        if not self.blocks:
            raise SpaceError("a part needs one block or more, got none")
        for one, after in itertools.pairwise(self.blocks):
            if one.layer.output_shape != after.layer.input_shape:
                raise SpaceError(
                    f"{after} cannot follow {one}, which gives {one.layer.output_shape}: it takes "
                    f"{after.layer.input_shape}"
                )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one input image."""
        return self.blocks[0].layer.input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output image, as of the last block's layer."""
        return self.blocks[-1].layer.output_shape

    def __str__(self) -> str:
        """Print as `12 blocks, stem 1->16 8x8 to head 32->10 2x2 h128 (3f2a91c0)`, a hash of all blocks."""
        digits = hashlib.sha256("\n".join(str(block) for block in self.blocks).encode()).hexdigest()[:8]
        count = len(self.blocks)
        ends = f"{self.blocks[0]} to {self.blocks[-1]}" if count > 1 else f"{self.blocks[0]}"
        return f"{count} block{'s' * (count > 1)}, {ends} ({digits})"


BlockOrPart = Block | Part


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """N layers and, at each, the candidates it may be: `choices[n][i]` is column i of layer n.

    For a mesh `branches` holds the places of each branch's layers: the layers before them are the trunk,
    whose output each branch gets, those behind are the tail, which gets the sum of the branches' outputs.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    layers: tuple[Layer, ...]
    choices: tuple[tuple[Candidate, ...], ...]
    branches: tuple[tuple[int, ...], ...] = ()

    @property
    def main_path(self) -> tuple[int, ...]:
        """Places of the layers in no branch: trunk and tail."""
        inside = {n for branch in self.branches for n in branch}
        return tuple(n for n in range(self.N) if n not in inside)

    @property
    def trunk(self) -> int:
        """How many layers the trunk has; all of them where there is no branch."""
        return self.branches[0][0] if self.branches else self.N

    @property
    def N(self) -> int:
        """Number of layers, stem and head among them."""
        return len(self.layers)

    @property
    def R(self) -> int:
        """Largest number of candidates a layer has."""
        return max(len(choices) for choices in self.choices)

    @property
    def input_elements(self) -> int:
        """How many numbers one input image holds."""
        return math.prod(self.input_shape)

    def blocks(self) -> tuple[Block, ...]:
        """Every distinct (candidate, geometry), in order of first appearance."""
        pairs = ((c, layer) for layer, cs in zip(self.layers, self.choices, strict=True) for c in cs)
        return tuple(dict.fromkeys(Block(candidate, layer) for candidate, layer in pairs))


def valid_candidates(layer: Layer, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Those of `candidates` that can stand at `layer`: 13 of the paper's where it keeps its shape, else 6."""
    return tuple(candidate for candidate in candidates if not _refusal(candidate, layer))


def _refusal(candidate: Candidate, layer: Layer) -> str:
    """Why a candidate cannot stand at a layer, empty where it can."""
    own = candidate.operation
    if (candidate.shortcut or candidate.op == "identity") and not layer.keeps_shape:
        return f"{candidate.name} needs a layer that keeps its shape, got {layer}"
    if layer.role != own.role:
        return f"{candidate.name} cannot stand at a layer whose role is {layer.role}"
    if own.hidden != (layer.hidden_channels > 0):
        needed = "hidden_channels of 1 or more" if own.hidden else "no hidden_channels"
        return f"{candidate.name} needs {needed}, got {layer.hidden_channels}"
    return ""
