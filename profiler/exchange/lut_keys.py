"""Convert blocks to and from the keys of the latency look-up tables of ProxylessNAS and Once-for-All.

    expanded_conv-input:56x56x24-output:28x28x40-expand:6-kernel:5-stride:2-idskip:0
    expanded_conv-input:56x56x24-output:28x28x40-expand:72-kernel:5-stride:2-idskip:0-se:1-hs:0

Shapes are height x width x channels. The first form is that of ProxylessNAS: an MBConv, `expand` is a ratio.
The second is that of Once-for-All: a MobileNetV3 block, `expand` is the hidden width, followed by flags for
squeeze-and-excitation and hard_swish; `v3` selects it below. Source: mit-han-lab/once-for-all,
ofa/nas/efficiency_predictor/latency_lookup_table.py.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from jmsnas.errors import SpaceError, TableError
from jmsnas.space import STEM, Block, Candidate, Layer

_N = r"([0-9]{1,5})"
_SHAPES = rf"-input:{_N}x{_N}x{_N}-output:(?:{_N}x{_N}x)?{_N}"
_CONV = rf"-expand:{_N}-kernel:{_N}-stride:{_N}-idskip:([01])(?:-se:([01])-hs:([01]))?"
_KEY = re.compile(rf"(\w+){_SHAPES}({_CONV})?")
_LAYER_TYPES = ("expanded_conv", "Conv", "Conv_1", "Conv_2", "AvgPool2D", "Logits")
_EXAMPLE = "expanded_conv-input:56x56x24-output:28x28x40-expand:6-kernel:5-stride:2-idskip:0"
_STEM_HS, _CONV_HS = Candidate(3, 0, op="stem_hs"), Candidate(1, 0, op="conv_hs")
_CLASSIFIER = Candidate(0, 0, op="classifier")
# Those tables time the pieces of a head separately; in JMSNAS a head is one block.
_HEADS = {
    ("Conv_1", "Logits"): Candidate(1, 0, op="head"),
    ("AvgPool2D", "Conv_2", "Logits"): Candidate(0, 0, op="classifier_hs"),
}
# Three resolutions of a supernet have ten pieces; chains of thousands would take too long.
_MAX_PIECES = 300


@dataclass(frozen=True, slots=True)
class HeadPiece:
    """Part of a head that is timed separately; shapes are (height, width, channels)."""

    layer_type: str
    before: tuple[int, int, int]
    after: tuple[int, int, int]

    def __str__(self) -> str:
        """Print as `Conv_1 7x7x320 -> 7x7x1280`."""
        return f"{self.layer_type} {'x'.join(map(str, self.before))} -> {'x'.join(map(str, self.after))}"


@dataclass(frozen=True, slots=True)
class MeanLatency:
    """Mean seconds of one call of a block, with its interval.

    `half_s` is the half width of the mean's 95 % interval, None if unknown; `runs` the number of calls
    averaged, 0 if unknown; `of_no_run` whether the file has that 0.
    """

    mean_s: float
    half_s: float | None = None
    runs: int = 0
    of_no_run: bool = field(default=False, compare=False)


# Blocks or pieces that an entry can mean, and its latency.
LutEntry = tuple[tuple[Block | HeadPiece, ...], MeanLatency]


def is_mobilenetv3_key(key: str) -> bool:
    """Whether a key has the form of Once-for-All's MobileNetV3 tables."""
    return "-se:" in key


def parse_key(key: str, v3: bool) -> tuple[Block | HeadPiece, ...]:
    """Parse a key: a block, a piece of a head, or (`Logits` of ProxylessNAS) either of the two.

    Raises TableError when the key is malformed, of the other form, or describes an impossible block.
    """
    match = _KEY.fullmatch(key)
    if not match or match[1] not in _LAYER_TYPES:
        raise TableError(
            f"{key[:120]!r} is not a look-up table key: expected one such as {_EXAMPLE!r}, starting with "
            f"{', '.join(_LAYER_TYPES)}"
        )
    layer_type = match[1]
    height, width, channels, after_height, after_width, out = (int(n or 1) for n in match.groups()[1:7])
    before, after = (height, width, channels), (after_height, after_width, out)
    piece = HeadPiece(layer_type, before, after)
    try:
        if layer_type == "expanded_conv":
            return (_bottleneck(key, match, piece, v3),)
        if match[8]:
            raise SpaceError(f"{layer_type} has no expand")
        if layer_type == "Conv":
            stride = 1 if after[:2] == before[:2] else 2
            return (_checked(_STEM_HS if v3 else STEM, piece, stride),)
        if layer_type == "Conv_1" and v3:
            return (_checked(_CONV_HS, piece, 1),)
        if layer_type == "Logits" and not v3:
            return Block(_CLASSIFIER, Layer(channels, out, 1, height, width, "head")), piece
    except SpaceError as error:
        raise TableError(f"{key!r} describes an impossible block: {error}") from error
    return (piece,)


def _bottleneck(key: str, match: re.Match[str], piece: HeadPiece, v3: bool) -> Block:
    if not match[8] or is_mobilenetv3_key(key) != v3:
        raise SpaceError(
            "expected expand, kernel, stride and idskip, and se and hs in all keys of a table or in none"
        )
    expand, kernel_size, stride, shortcut = (int(n) for n in match.groups()[8:12])
    if not v3:
        return _checked(Candidate(kernel_size, expand, bool(shortcut)), piece, stride)
    op = f"mbv3_{'hs' if match[14] == '1' else 're'}{'_se' if match[13] == '1' else ''}"
    return _checked(Candidate(kernel_size, 0, bool(shortcut), op), piece, stride, expand)


def _checked(candidate: Candidate, piece: HeadPiece, stride: int, hidden: int = 0) -> Block:
    (height, width, channels), out = piece.before, piece.after[2]
    role = candidate.operation.role
    layer = Layer(channels, out, stride, height, width, role, hidden)
    if layer.output_shape != (out, *piece.after[:2]):
        raise SpaceError(
            f"its output is {piece.after[0]}x{piece.after[1]}, stride {stride} gives "
            f"{layer.output_shape[1]}x{layer.output_shape[2]}"
        )
    return Block(candidate, layer)


def key_of_block(block: Block, v3: bool) -> str | None:
    """Look-up table key of a block; None if the format cannot express it."""
    layer, candidate = block.layer, block.candidate
    layer_type = {True: _V3_LAYER_TYPES, False: _PLAIN_LAYER_TYPES}[v3].get(candidate.op)
    if layer_type is None:
        return None
    channels, *sizes = layer.output_shape
    after = "x".join(map(str, [*sizes, channels]))
    key = f"{layer_type}-input:{layer.height}x{layer.width}x{layer.in_channels}-output:{after}"
    if layer_type == "expanded_conv":
        expand = layer.hidden_channels if v3 else candidate.expansion
        key += f"-expand:{expand}-kernel:{candidate.kernel_size}-stride:{layer.stride}"
        key += f"-idskip:{candidate.shortcut:d}"
    if layer_type == "expanded_conv" and v3:
        own = candidate.operation
        key += f"-se:{own.squeeze:d}-hs:{own.activation == 'hard_swish':d}"
    return key


_PLAIN_LAYER_TYPES = {"mb": "expanded_conv", "stem": "Conv", "classifier": "Logits"}
_V3_LAYER_TYPES = {
    **dict.fromkeys(("mbv3_re", "mbv3_hs", "mbv3_re_se", "mbv3_hs_se"), "expanded_conv"),
    "stem_hs": "Conv",
    "conv_hs": "Conv_1",
}


def join_heads(
    pieces: Mapping[HeadPiece, MeanLatency],
) -> Iterator[tuple[tuple[HeadPiece, ...], Block, MeanLatency]]:
    """Join consecutive pieces to heads: the pieces, the block, and the sum of their latencies.

    Raises TableError for more than 300 pieces.
    """
    if len(pieces) > _MAX_PIECES:
        raise TableError(f"it has {len(pieces)} pieces of heads: expected at most {_MAX_PIECES}")
    for (first, *others), candidate in _HEADS.items():
        chains: list[tuple[HeadPiece, ...]] = [(piece,) for piece in pieces if piece.layer_type == first]
        for other in others:
            following = [piece for piece in pieces if piece.layer_type == other]
            chains = [(*c, piece) for c in chains for piece in following if piece.before == c[-1].after]
        for chain in chains:
            height, width, channels = chain[0].before
            classes, hidden = chain[-1].after[2], chain[-1].before[2]
            layer = Layer(channels, classes, 1, height, width, "head", hidden)
            yield chain, Block(candidate, layer), _total([pieces[piece] for piece in chain])


def _total(latencies: list[MeanLatency]) -> MeanLatency:
    halves = [latency.half_s for latency in latencies if latency.half_s is not None]
    half_s = math.hypot(*halves) if len(halves) == len(latencies) else None
    runs = min(latency.runs for latency in latencies)
    return MeanLatency(sum(latency.mean_s for latency in latencies), half_s, runs)
