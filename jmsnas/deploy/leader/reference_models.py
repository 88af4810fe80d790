"""Rehearse a split with other networks than the one that is meant: what serving adds to U(.), and the links.

A table's blocks run back to back on a quiet host; a request comes unawaited, with cold caches, while its
neighbours work. What that adds is seen only in serving. So two reference networks of the same geometry, one
quick, one slow, are served by the same pieces: each device's seconds over its U(.) of them give `a + b * U`,
each link's seconds are those of the very sizes. The network that is meant teaches nothing here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from torch import nn

from jmsnas.deploy.leader.leader import Answer, Leader
from jmsnas.deploy.leader.measured_terms import measured_terms
from jmsnas.deploy.leader.serving_overhead import Served, fit_served
from jmsnas.deploy.parts.export import Exported, export_network
from jmsnas.deploy.parts.pieces import segment_layers
from jmsnas.deploy.parts.shipment import Piece
from jmsnas.deploy.transport.encoding import WIRE_DTYPES
from jmsnas.deploy.transport.frame import DTYPES
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.nas.latency.build_lut import Predictor
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.space import IDENTITY, Block, Candidate, SearchSpace

Links = dict[tuple[str, str], MeasuredLink]
# Kernel size and expansion of the MBConvs of the references: the ends of what the paper's space has.
QUICK, SLOW = (3, 3), (7, 6)
_WARM_UP, _TIMEOUT_S = 8, 30.0


@dataclass(frozen=True, slots=True)
class Reference:
    """A network that is served to learn from: its segments, and U(.) of each device's part of it."""

    segments: Mapping[str, Exported]
    tau_s: Mapping[str, float]


def reference_blocks(blocks: Sequence[Block], size: tuple[int, int]) -> tuple[Block, ...]:
    """Put MBConvs of one kernel size and expansion in the place of a network's own, geometry unchanged."""
    return tuple(Block(_reference(block, size), block.layer) for block in blocks)


def _reference(block: Block, size: tuple[int, int]) -> Candidate:
    own = block.candidate
    if own == IDENTITY:
        return Candidate(*size, True)
    if own.op != "mb" or own.expansion < 2 or block.layer.hidden_channels:
        return own
    return replace(own, kernel_size=size[0], expansion=size[1])


def references_for(
    space: SearchSpace,
    blocks: Sequence[Block],
    pieces: Sequence[Piece],
    predictors: Mapping[str, Predictor],
) -> list[Reference]:
    """Make the references of a network, weights drawn; none where no layer of it can be another one."""
    found = []
    for size in (QUICK, SLOW):
        own = reference_blocks(blocks, size)
        if own == tuple(blocks):
            continue
        segments = {name: [own[n] for n in layers] for name, layers in segment_layers(space).items()}
        tau_s = {piece.device: _tau_s(piece, segments[piece.segment], predictors) for piece in pieces}
        found.append(Reference({name: _exported(tuple(own)) for name, own in segments.items()}, tau_s))
    return found


def _tau_s(piece: Piece, blocks: Sequence[Block], predictors: Mapping[str, Predictor]) -> float:
    own = blocks[piece.first - 1 : piece.last]
    return float(predictors[piece.device].predict_s(own).sum()) if own else 0.0


@lru_cache(16)
def _exported(blocks: tuple[Block, ...]) -> Exported:
    network = nn.Sequential(*(seeded_module(block) for block in blocks))
    return replace(export_network(network, (1, *blocks[0].layer.input_shape)), blocks=blocks)


def rehearse(
    leader: Leader,
    pieces: tuple[Piece, ...],
    references: Sequence[Reference],
    links: Mapping[tuple[str, str], MeasuredLink],
    rounds: int = 2,
    requests: int = 25,
) -> tuple[dict[str, Served], Links]:
    """Serve the references by the pieces, and give what each device adds to U(.), and the links as they were.

    Parameters
    ----------
    leader, pieces
        Of the deployment; a plan is shipped for each reference.
    references
        With U(.) of each piece.
    links
        As measured before; their clocks are kept.
    rounds, requests
        How often the references take turns, and requests sent one by one to each in a turn.

    Raises
    ------
    LostDevice, DeployError
        When a device is lost.
    """
    seen: dict[tuple[str, str], list[float]] = {}
    for reference in [*references] * rounds:  # in turns: a shared host changes its speed for seconds
        leader.ship(pieces, reference.segments)
        for term in measured_terms(_answers(leader, reference, pieces[0], requests), links, {}, {}):
            seen.setdefault((term.kind, term.where), []).append(term.measured_s)
    served = {}
    for device in references[0].tau_s:
        taken = np.add(seen["compute", device], seen["wait", device])
        tau_s = [reference.tau_s[device] for reference in references] * rounds
        served[device] = fit_served(tau_s, taken.tolist())
    return served, _links(links, pieces, references[0].segments, seen)


def _answers(leader: Leader, reference: Reference, first: Piece, requests: int) -> list[Answer]:
    shape = reference.segments[first.segment].shapes[0]
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(shape).astype(np.float32) for _ in range(4)]
    answers = [leader.ask(xs[n % 4], _TIMEOUT_S) for n in range(_WARM_UP + requests)]
    return answers[_WARM_UP:]


def _links(
    links: Mapping[tuple[str, str], MeasuredLink],
    pieces: Sequence[Piece],
    segments: Mapping[str, Exported],
    seen: Mapping[tuple[str, str], Sequence[float]],
) -> Links:
    """Put what the references saw of each link at its size in the place of what was measured there."""
    found = dict(links)
    for piece in pieces:
        count = math.prod(segments[piece.segment].shapes[piece.last])
        for target in piece.targets:
            pair, size = (piece.device, target.device), count * DTYPES[WIRE_DTYPES[target.wire]]
            found[pair] = found[pair].at(size, float(np.mean(seen["send", f"{pair[0]} -> {pair[1]}"])))
    return found
