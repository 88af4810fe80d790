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

from jmsnas.deploy.leader.leader import Leader, Response
from jmsnas.deploy.leader.measured_terms import measured_terms
from jmsnas.deploy.leader.serving_overhead import ServingOverhead, fit_serving_overhead
from jmsnas.deploy.parts.export import ExportedModel, export_model
from jmsnas.deploy.parts.shipment import PartSpec, segment_layers
from jmsnas.deploy.transport.encoding import WIRE_DTYPES
from jmsnas.deploy.transport.frame import DTYPES
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.nas.latency.build_lut import Predictor
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.space import IDENTITY, Block, Candidate, SearchSpace

Links = dict[tuple[str, str], MeasuredLink]
# Kernel size and expansion of the MBConvs of the references: the ends of what the paper's space has.
FAST, SLOW = (3, 3), (7, 6)
_WARM_UP, _TIMEOUT_S = 8, 30.0


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A network that is served to learn from: its segments, and U(.) of each device's part of it."""

    segments: Mapping[str, ExportedModel]
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


def reference_models(
    space: SearchSpace,
    blocks: Sequence[Block],
    part_specs: Sequence[PartSpec],
    predictors: Mapping[str, Predictor],
) -> list[ReferenceModel]:
    """Make the references of a network, weights drawn; none where no layer of it can be another one."""
    found = []
    for size in (FAST, SLOW):
        own = reference_blocks(blocks, size)
        if own == tuple(blocks):
            continue
        segments = {name: [own[n] for n in layers] for name, layers in segment_layers(space).items()}
        tau_s = {
            part_spec.device: _tau_s(part_spec, segments[part_spec.segment], predictors)
            for part_spec in part_specs
        }
        found.append(ReferenceModel({name: _exported(tuple(own)) for name, own in segments.items()}, tau_s))
    return found


def _tau_s(part_spec: PartSpec, blocks: Sequence[Block], predictors: Mapping[str, Predictor]) -> float:
    own = blocks[part_spec.first - 1 : part_spec.last]
    return float(predictors[part_spec.device].predict_s(own).sum()) if own else 0.0


@lru_cache(16)
def _exported(blocks: tuple[Block, ...]) -> ExportedModel:
    model = nn.Sequential(*(seeded_module(block) for block in blocks))
    return replace(export_model(model, (1, *blocks[0].layer.input_shape)), blocks=blocks)


def measure_serving_overhead(
    leader: Leader,
    part_specs: tuple[PartSpec, ...],
    references: Sequence[ReferenceModel],
    links: Mapping[tuple[str, str], MeasuredLink],
    rounds: int = 2,
    requests: int = 25,
) -> tuple[dict[str, ServingOverhead], Links]:
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
        leader.ship(part_specs, reference.segments)
        for term in measured_terms(_answers(leader, reference, part_specs[0], requests), links, {}, {}):
            seen.setdefault((term.kind, term.where), []).append(term.measured_s)
    served = {}
    for device in references[0].tau_s:
        taken = np.add(seen["compute", device], seen["wait", device])
        tau_s = [reference.tau_s[device] for reference in references] * rounds
        served[device] = fit_serving_overhead(tau_s, taken.tolist())
    return served, _links(links, part_specs, references[0].segments, seen)


def _answers(leader: Leader, reference: ReferenceModel, first: PartSpec, requests: int) -> list[Response]:
    shape = reference.segments[first.segment].shapes[0]
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(shape).astype(np.float32) for _ in range(4)]
    answers = [leader.infer(xs[n % 4], _TIMEOUT_S) for n in range(_WARM_UP + requests)]
    return answers[_WARM_UP:]


def _links(
    links: Mapping[tuple[str, str], MeasuredLink],
    part_specs: Sequence[PartSpec],
    segments: Mapping[str, ExportedModel],
    seen: Mapping[tuple[str, str], Sequence[float]],
) -> Links:
    """Put what the references saw of each link at its size in the place of what was measured there."""
    found = dict(links)
    for part_spec in part_specs:
        count = math.prod(segments[part_spec.segment].shapes[part_spec.last])
        for target in part_spec.next_hops:
            pair, size = (part_spec.device, target.device), count * DTYPES[WIRE_DTYPES[target.wire]]
            found[pair] = found[pair].with_point(
                size, float(np.mean(seen["send", f"{pair[0]} -> {pair[1]}"]))
            )
    return found
