"""The search space as data: candidates, layer geometry, presets. No torch here.

N layers (stem and head among them, one candidate each), R candidates at most a layer.
Source: JMSNAS paper, section IV-A; MBConv of MobileNetV2 (arXiv 1801.04381).
"""

import itertools
import re
from dataclasses import dataclass

from jmsnas.errors import SpaceError

_MB_NAME = re.compile(r"mb_k(\d{1,2})_e(\d{1,2})(_skip)?")
_ROLES = ("stem", "block", "head")


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """One operation a layer may be: an MBConv, Identity, or the fixed stem or head.

    `kernel_size` is odd (0 for Identity), `expansion` the ratio of the depthwise width to the input
    width (0 where there is none), `shortcut` whether the input is added to the output.
    """

    kernel_size: int
    expansion: int
    shortcut: bool = False
    op: str = "mb"

    def __post_init__(self) -> None:
        """Refuse what no block can be."""
        if self.op == "mb" and not (
            self.kernel_size % 2 == 1 and self.kernel_size <= 31 and self.expansion >= 1
        ):
            raise SpaceError(
                f"an MBConv needs an odd kernel_size up to 31 and an expansion >= 1, "
                f"got kernel_size {self.kernel_size}, expansion {self.expansion}"
            )
        if self.op not in ("mb", "identity", "stem", "head"):
            raise SpaceError(f"unknown operation {self.op!r}: expected mb, identity, stem or head")

    @property
    def name(self) -> str:
        """The one name it has everywhere: `mb_k5_e6_skip`, `mb_k5_e6`, `identity`, `stem`, `head`."""
        if self.op != "mb":
            return self.op
        return f"mb_k{self.kernel_size}_e{self.expansion}" + ("_skip" if self.shortcut else "")

    @staticmethod
    def parse(name: str) -> "Candidate":
        """Read a name back. Raises SpaceError."""
        if name in _FIXED:
            return _FIXED[name]
        match = _MB_NAME.fullmatch(name)
        if not match:
            raise SpaceError(
                f"unknown candidate {name!r}: expected a name such as mb_k5_e6_skip, mb_k3_e3 or identity"
            )
        return Candidate(int(match[1]), int(match[2]), match[3] is not None)


IDENTITY = Candidate(0, 0, op="identity")
STEM = Candidate(3, 0, op="stem")
HEAD = Candidate(1, 0, op="head")
_FIXED = {"identity": IDENTITY, "stem": STEM, "head": HEAD}


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """The geometry of a layer; height and width are the input's.

    A head runs a 1x1 convolution to `hidden_channels`, pools, and ends in `out_channels` logits.
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
        if min(sizes) < 1 or max(sizes) > 1 << 16 or self.stride not in (1, 2) or self.role not in _ROLES:
            raise SpaceError(
                f"a layer needs channels, height and width from 1 to 65536, stride 1 or 2 and a role of "
                f"{', '.join(_ROLES)}, got {self.in_channels}->{self.out_channels} channels, "
                f"{self.height}x{self.width}, stride {self.stride}, role {self.role!r}"
            )

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of one output image; (classes,) behind a head."""
        if self.role == "head":
            return (self.out_channels,)
        return (self.out_channels, -(-self.height // self.stride), -(-self.width // self.stride))

    @property
    def output_elements(self) -> int:
        """How many numbers one output image holds."""
        elements = 1
        for size in self.output_shape:
            elements *= size
        return elements

    @property
    def keeps_shape(self) -> bool:
        """Whether output and input have the same shape, so that a shortcut or Identity can be."""
        return self.role == "block" and self.stride == 1 and self.in_channels == self.out_channels

    def __str__(self) -> str:
        """Print as `16->24 8x8 /2`."""
        stride = f" /{self.stride}" if self.stride > 1 else ""
        return f"{self.in_channels}->{self.out_channels} {self.height}x{self.width}{stride}"


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """A candidate at a layer's geometry: what is timed, predicted, trained and sent."""

    candidate: Candidate
    layer: Layer

    def __post_init__(self) -> None:
        """Refuse a candidate that cannot stand at the layer."""
        needs_shape = self.candidate.shortcut or self.candidate.op == "identity"
        if needs_shape and not self.layer.keeps_shape:
            raise SpaceError(f"{self.candidate.name} needs a layer that keeps its shape, got {self.layer}")
        if (self.layer.role == "block") != (self.candidate.op in ("mb", "identity")) or (
            self.layer.role != "block" and self.layer.role != self.candidate.op
        ):
            raise SpaceError(f"{self.candidate.name} cannot stand at a layer whose role is {self.layer.role}")

    def __str__(self) -> str:
        """Print as `mb_k5_e6 16->24 8x8 /2`."""
        return f"{self.candidate.name} {self.layer}"


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """N layers and, at each, the candidates it may be: `choices[n][i]` is column i of layer n."""

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    layers: tuple[Layer, ...]
    choices: tuple[tuple[Candidate, ...], ...]

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
        channels, height, width = self.input_shape
        return channels * height * width

    def blocks(self) -> tuple[Block, ...]:
        """Every distinct (candidate, geometry), in order of first appearance."""
        pairs = ((c, layer) for layer, cs in zip(self.layers, self.choices, strict=True) for c in cs)
        return tuple(dict.fromkeys(Block(candidate, layer) for candidate, layer in pairs))


@dataclass(frozen=True, slots=True)
class Architecture:
    """One candidate a layer, stem and head among them."""

    candidates: tuple[Candidate, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates by name."""
        return tuple(candidate.name for candidate in self.candidates)

    def indices(self, space: SearchSpace) -> tuple[int, ...]:
        """Column of each layer's candidate in `space.choices`. Raises SpaceError."""
        if len(self.candidates) != space.N:
            raise SpaceError(
                f"an architecture of space {space.name} has {space.N} layers, got {len(self.candidates)}"
            )
        for n, candidate in enumerate(self.candidates):
            if candidate not in space.choices[n]:
                allowed = ", ".join(choice.name for choice in space.choices[n])
                raise SpaceError(f"layer {n + 1} cannot be {candidate.name}: expected one of {allowed}")
        return tuple(space.choices[n].index(c) for n, c in enumerate(self.candidates))


def mbconv_candidates(
    kernel_sizes: tuple[int, ...] = (3, 5, 7), expansions: tuple[int, ...] = (3, 6), identity: bool = True
) -> tuple[Candidate, ...]:
    """Kernel sizes x expansions x (shortcut or not), then Identity: the paper's 6 x 2 + 1 = 13."""
    grid = itertools.product((True, False), kernel_sizes, expansions)
    found = tuple(Candidate(k, e, shortcut) for shortcut, k, e in grid)
    return found + ((IDENTITY,) if identity else ())


def candidates_at(layer: Layer, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Those of `candidates` that can stand at `layer`: 13 of the paper's where it keeps its shape, else 6."""
    return tuple(c for c in candidates if layer.keeps_shape or not (c.shortcut or c.op == "identity"))
