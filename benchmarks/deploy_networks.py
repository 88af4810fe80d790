"""Models, splits, predicted and measured latency of the deployment benchmarks, over a chain and a mesh."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from link_namespaces import RATES_MBPS
from torch import nn

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.leader.measured_terms import measured_latency_s, measured_terms
from jmsnas.deploy.leader.reference_models import (
    FAST,
    SLOW,
    ReferenceModel,
    measure_serving_overhead,
    reference_blocks,
)
from jmsnas.deploy.leader.serving_overhead import ServingOverhead
from jmsnas.deploy.parts.export import ExportedModel, export_model
from jmsnas.deploy.parts.shipment import NextHop, PartSpec
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.latency import Branch, completion_latency
from jmsnas.mobilenets import mobilenet
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.space import Block, BlockOrPart
from jmsnas.space_file import load_space

Tau = Mapping[BlockOrPart, float]
Blocks = tuple[Block, ...]
Links = Mapping[tuple[str, str], MeasuredLink]
CHAIN = ("ue", "sbs", "mbs", "cloud")
MESH = ("ue", "sbs", "mbs1", "mbs2", "mbs3", "cloud")
DEVICES = {"chain": CHAIN, "mesh": MESH}
PAIRS = {
    "chain": tuple(zip(CHAIN, CHAIN[1:], strict=False)),
    "mesh": (("ue", "sbs"), *(("sbs", c) for c in MESH[2:5]), *((c, "cloud") for c in MESH[2:5])),
}
_WARM_UP, _TIMEOUT_S = 10, 30.0


@dataclass(frozen=True)
class Split:
    """A model split over a topology: the blocks of each segment, and the part of each device."""

    topology: str
    segments: dict[str, Blocks]
    part_specs: tuple[PartSpec, ...]

    def tau_s(self, tau: Tau) -> dict[str, float]:
        """Seconds of each device, as the sum of its blocks' latencies."""
        return {
            spec.device: sum(tau[block] for block in self.segments[spec.segment][spec.first - 1 : spec.last])
            for spec in self.part_specs
        }

    def sent_bytes(self) -> dict[tuple[str, str], int]:
        """Bytes sent over each link."""
        return {
            (spec.device, hop.device): 4 * self.segments[spec.segment][spec.last - 1].layer.output_elements
            for spec in self.part_specs
            for hop in spec.next_hops
        }

    def like(self, size: tuple[int, int]) -> "Split":
        """Make the same split of a reference model."""
        segments = {name: reference_blocks(blocks, size) for name, blocks in self.segments.items()}
        return Split(self.topology, segments, self.part_specs)

    def exported(self) -> dict[str, ExportedModel]:
        """Export each segment, with random weights of its own seed."""
        return {name: exported(blocks, seed) for seed, (name, blocks) in enumerate(self.segments.items())}


@cache
def exported(blocks: Blocks, seed: int) -> ExportedModel:
    model = nn.Sequential(*(seeded_module(block, seed) for block in blocks))
    return export_model(model, (1, *blocks[0].layer.input_shape))


@dataclass(frozen=True)
class Result:
    """Predicted and measured latency of a model; `bare_s` is predicted without measured serving overhead."""

    topology: str
    model: str
    bare_s: float
    predicted_s: float
    measured_s: float
    difference: float
    terms: list[dict[str, Any]]

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return abs(self.predicted_s / self.measured_s - 1)


def mobilenet_v2() -> dict[str, Blocks]:
    """Make MobileNetV2 at 224."""
    return {"mobilenet_v2 224": mobilenet("mobilenet_v2", (3, 224, 224), 1000).blocks}


def benchmark_models(count: int, seed: int) -> dict[str, Blocks]:
    """Make random models of the cifar space, and MobileNetV2 at 224."""
    return {**random_models("cifar", count, seed), **mobilenet_v2()}


def random_models(name: str, count: int, seed: int) -> dict[str, Blocks]:
    """Draw models of a space, with candidates uniform in each layer."""
    space, rng = load_space(name), np.random.default_rng(seed)
    return {
        f"{name} {n}": tuple(
            Block(choices[rng.integers(len(choices))], layer)
            for layer, choices in zip(space.layers, space.choices, strict=True)
        )
        for n in range(count)
    }


def with_references(splits: Iterable[Split]) -> list[BlockOrPart]:
    """List the distinct blocks of the splits and of their reference models."""
    models = [blocks for split in splits for blocks in split.segments.values()]
    found = [(blocks, *(reference_blocks(blocks, size) for size in (FAST, SLOW))) for blocks in models]
    return list(dict.fromkeys(block for three in found for blocks in three for block in blocks))


def drawn_splits(topology: str, count: int, seed: int) -> dict[str, Split]:
    """Draw models of the cifar space, each with cuts of its own, uniform too."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, blocks in random_models("cifar", count, seed).items():
        cuts = sorted(rng.choice(np.arange(1, len(blocks)), 3, replace=False).tolist())
        found[name] = at_cuts(topology, blocks, cuts)
    return found


def at_cuts(topology: str, blocks: Blocks, cuts: Sequence[int]) -> Split:
    """Split a model after three layers: on a chain between devices; on a mesh after ue, trunk, branches."""
    return on_chain(blocks, (*cuts, len(blocks))) if topology == "chain" else on_mesh(blocks, *cuts)


def spread(splits: Mapping[str, Split], tau: Tau, count: int) -> dict[str, Split]:
    """Choose splits whose predicted T are nearest to equal ratios, from the lower quartile to the upper."""
    left = {name: nominal_s(split, tau) for name, split in splits.items()}
    chosen = {}
    for wanted_s in np.geomspace(*np.quantile(list(left.values()), (0.25, 0.75)), count):
        name = min(left, key=lambda name: abs(left[name] - wanted_s))
        chosen[name] = splits[name]
        del left[name]
    return chosen


def nominal_s(model_split: Split, tau: Tau) -> float:
    """Predict T before anything is measured, from U(.) and the rates of Table I."""
    rates_bps = {pair: 1e6 * RATES_MBPS.get(pair[0], 200) for pair in PAIRS[model_split.topology]}
    links = {pair: MeasuredLink(*pair, 0.0, 8 / rate, 0, 0, (), ()) for pair, rate in rates_bps.items()}
    return predict(model_split, tau, dict.fromkeys(DEVICES[model_split.topology], ServingOverhead()), links)[
        0
    ]


def on_mesh(blocks: Blocks, first: int, trunk_end: int, branches_end: int) -> Split:
    """Split a model: ue and sbs have the trunk, three branches the same layers, cloud the tail."""
    trunk, branch, tail = blocks[:trunk_end], blocks[trunk_end:branches_end], blocks[branches_end:]
    part_specs = (
        PartSpec("ue", "trunk", 1, first, (NextHop("sbs"),)),
        PartSpec("sbs", "trunk", first + 1, trunk_end, tuple(NextHop(child) for child in MESH[2:5])),
        *(
            PartSpec(child, f"branch{n + 1}", 1, len(branch), (NextHop("cloud", branch=n),))
            for n, child in enumerate(MESH[2:5])
        ),
        PartSpec("cloud", "tail", 1, len(tail), (), joined=3),
    )
    return Split(
        "mesh", {"trunk": trunk, **{f"branch{n}": branch for n in (1, 2, 3)}, "tail": tail}, part_specs
    )


def on_chain(blocks: Blocks, cuts: Sequence[int]) -> Split:
    """Split a model over the chain after these layers."""
    hops = [(NextHop(device),) for device in CHAIN[1:]] + [()]
    rows = zip(CHAIN, (0, *cuts[:-1]), cuts, hops, strict=True)
    return Split(
        "chain", {"chain": blocks}, tuple(PartSpec(d, "chain", a + 1, b, to) for d, a, b, to in rows)
    )


def even_cuts(tau_s: Sequence[float], parts: int) -> tuple[int, ...]:
    """Choose cuts that give each device about the same latency, and at least one layer."""
    total, cuts = np.cumsum(tau_s), list[int]()
    for part in range(1, parts):
        cut = int(np.searchsorted(total, total[-1] * part / parts)) + 1
        cuts.append(min(max(cut, (cuts[-1] if cuts else 0) + 1), len(tau_s) - parts + part))
    return (*cuts, len(tau_s))


Predicted = tuple[float, dict[str, float], dict[tuple[str, str], float]]


def predict(model_split: Split, tau: Tau, served: Mapping[str, ServingOverhead], links: Links) -> Predicted:
    """Predict T by equation (1) or (2), with the terms of each device and each link."""
    tau_s = {device: served[device].served_s(bare_s) for device, bare_s in model_split.tau_s(tau).items()}
    epsilon_s = {pair: links[pair].epsilon_s(size) for pair, size in model_split.sent_bytes().items()}
    if model_split.topology == "chain":
        sends = [*(epsilon_s[pair] for pair in PAIRS["chain"]), 0.0]
        return completion_latency([tau_s[device] for device in CHAIN], sends), tau_s, epsilon_s
    branches = [Branch(epsilon_s["sbs", c], tau_s[c], epsilon_s[c, "cloud"]) for c in MESH[2:5]]
    sends = [epsilon_s["ue", "sbs"], 0.0]
    T = completion_latency([tau_s["ue"], tau_s["cloud"]], sends, tau_s["sbs"], branches)
    return T, tau_s, epsilon_s


def evaluate(name: str, model_split: Split, tau: Tau, leader: Leader, requests: int) -> Result:
    """Predict the latency of a model, then deploy and measure it."""
    sizes = sorted({1024, *model_split.sent_bytes().values()})
    links = leader.measure_links(PAIRS[model_split.topology], sizes)
    calls = {device: ServingOverhead(info.call_s) for device, info in leader.describe().items()}
    bare_s, *_ = predict(model_split, tau, calls, links)
    others = [model_split.like(size) for size in (FAST, SLOW)]
    references = [ReferenceModel(other.exported(), other.tau_s(tau)) for other in others]
    served, links = measure_serving_overhead(leader, model_split.part_specs, references, links)
    predicted_s, tau_s, epsilon_s = predict(model_split, tau, served, links)
    parts = model_split.exported()
    leader.ship(model_split.part_specs, parts)
    rng, shape = np.random.default_rng(0), next(iter(parts.values())).shapes[0]
    xs = [rng.standard_normal(shape).astype(np.float32) for _ in range(8)]
    responses = [leader.infer(xs[n % 8], _TIMEOUT_S) for n in range(requests + _WARM_UP)]
    expected = [whole(parts, x) for x in xs]
    difference = max(
        float(np.abs(response.logits - expected[n % 8]).max()) for n, response in enumerate(responses)
    )
    timed = responses[_WARM_UP:]
    measured_s = float(np.median([measured_latency_s(response, links) for response in timed]))
    terms = [asdict(term) for term in measured_terms(timed, links, tau_s, epsilon_s)]
    return Result(model_split.topology, name, bare_s, predicted_s, measured_s, difference, terms)


def whole(parts: Mapping[str, ExportedModel], x: Any) -> Any:
    """Run the whole model in torch."""
    first, *branches = parts.values()
    y = first.run(x)
    if not branches:
        return y
    *branches, tail = branches
    return tail.run(np.sum([branch.run(y) for branch in branches], axis=0))
