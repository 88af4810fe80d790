"""Measure serving overhead with two reference models of the same layer geometry, before a model is predicted.

U(.) sums blocks that ran back to back on a quiet host. A served part runs one request at a time, with cold
caches, while its neighbours work. So two reference models of the same geometry, one fast, one slow, are
served in the same split: the latency of each device is fitted by a + b * U(.), and the transfer time of each
link is measured at the exact sizes. The deployed model itself is not used.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from torch import nn

from jmsnas.deploy.leader.leader import Leader, Response
from jmsnas.deploy.leader.measured_terms import Links, measured_terms
from jmsnas.deploy.leader.serving_overhead import ServingOverhead, fit_serving_overhead
from jmsnas.deploy.parts.export import ExportedModel, export_model
from jmsnas.deploy.parts.shipment import PartSpec, segment_layers
from jmsnas.deploy.transport.encoding import WIRE_DTYPES
from jmsnas.deploy.transport.frame import DTYPES
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.nas.latency.build_lut import Predictor
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.space import IDENTITY, Block, Candidate, SearchSpace

# Kernel size and expansion of the reference models' MBConvs: the smallest and largest of the paper's space.
FAST, SLOW = (3, 3), (7, 6)
_WARM_UP, _TIMEOUT_S = 8, 30.0


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A reference model: its exported segments, and U(.) of each device's part of it, seconds."""

    segments: Mapping[str, ExportedModel]
    tau_s: Mapping[str, float]


def reference_blocks(blocks: Sequence[Block], size: tuple[int, int]) -> tuple[Block, ...]:
    """Replace a model's MBConvs by ones of `size` = (kernel size, expansion); geometry is unchanged."""
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
    """Build the reference models of a model, with random weights; none if no layer can be replaced."""
    models = []
    for size in (FAST, SLOW):
        own = reference_blocks(blocks, size)
        if own == tuple(blocks):
            continue
        segments = {name: tuple(own[n] for n in layers) for name, layers in segment_layers(space).items()}
        tau_s = {part.device: _tau_s(part, segments[part.segment], predictors) for part in part_specs}
        models.append(ReferenceModel({name: _exported(part) for name, part in segments.items()}, tau_s))
    return models


def _tau_s(part: PartSpec, blocks: Sequence[Block], predictors: Mapping[str, Predictor]) -> float:
    own = blocks[part.first - 1 : part.last]
    return float(predictors[part.device].predict_s(own).sum()) if own else 0.0


@lru_cache(16)
def _exported(blocks: tuple[Block, ...]) -> ExportedModel:
    model = nn.Sequential(*(seeded_module(block) for block in blocks))
    return replace(export_model(model, (1, *blocks[0].layer.input_shape)), blocks=blocks)


def measure_serving_overhead(
    leader: Leader,
    part_specs: tuple[PartSpec, ...],
    references: Sequence[ReferenceModel],
    links: Links,
    rounds: int = 2,
    requests: int = 25,
) -> tuple[dict[str, ServingOverhead], dict[tuple[str, str], MeasuredLink]]:
    """Serve the reference models, and fit each device's overhead and each link's transfer time.

    A plan is shipped for each reference model in each of `rounds`, then `requests` are sent one by one.
    `links` were measured before; their clock offsets are kept. Raises DeviceLostError, DeployError.
    """
    measured_s: dict[tuple[str, str], list[float]] = {}
    for reference in [*references] * rounds:  # in turns, as the speed of a shared host drifts
        leader.ship(part_specs, reference.segments)
        for term in measured_terms(_responses(leader, reference, part_specs[0], requests), links, {}, {}):
            measured_s.setdefault((term.kind, term.where), []).append(term.measured_s)
    overheads = {}
    for device in references[0].tau_s:
        served_s = np.add(measured_s["compute", device], measured_s["wait", device])
        tau_s = [reference.tau_s[device] for reference in references] * rounds
        overheads[device] = fit_serving_overhead(tau_s, served_s.tolist())
    return overheads, _links(links, part_specs, references[0].segments, measured_s)


def _responses(leader: Leader, reference: ReferenceModel, first: PartSpec, requests: int) -> list[Response]:
    shape = reference.segments[first.segment].shapes[0]
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(shape).astype(np.float32) for _ in range(4)]
    responses = [leader.infer(xs[n % 4], _TIMEOUT_S) for n in range(_WARM_UP + requests)]
    return responses[_WARM_UP:]


def _links(
    links: Links,
    part_specs: Sequence[PartSpec],
    segments: Mapping[str, ExportedModel],
    measured_s: Mapping[tuple[str, str], Sequence[float]],
) -> dict[tuple[str, str], MeasuredLink]:
    """Replace each link's time at the size it carries by the mean of the reference models."""
    updated = dict(links)
    for part in part_specs:
        count = math.prod(segments[part.segment].shapes[part.last])
        for hop in part.next_hops:
            pair, size = (part.device, hop.device), count * DTYPES[WIRE_DTYPES[hop.wire]]
            send_s = measured_s["send", f"{part.device} -> {hop.device}"]
            # Clock offsets are known to within a round trip only: the difference may be negative.
            updated[pair] = updated[pair].with_point(size, max(1e-7, float(np.mean(send_s))))
    return updated
