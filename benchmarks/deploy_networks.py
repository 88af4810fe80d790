"""Networks of the fidelity benchmark over chain and mesh: what is predicted of each, and what is measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from jmsnas.deploy.export import Exported, export_network
from jmsnas.deploy.leader import Leader
from jmsnas.deploy.measured import completion_s
from jmsnas.deploy.plan import Piece, Target
from jmsnas.latency import Branch, completion_latency
from jmsnas.mobilenets import mobilenet
from jmsnas.profiler.export import seeded_module
from jmsnas.space import Block, Part, Subject
from jmsnas.space_file import load_space

Tau = dict[Subject, float]
Blocks = Sequence[Block]
CHAIN = ("ue", "sbs", "mbs", "cloud")
MESH = ("ue", "sbs", "mbs1", "mbs2", "mbs3", "cloud")


@dataclass(frozen=True)
class Result:
    """What was predicted of a network over a topology, and measured."""

    topology: str
    network: str
    predicted_s: float
    measured_s: float
    difference: float

    @property
    def error(self) -> float:
        """Share that the prediction is off by."""
        return abs(self.predicted_s / self.measured_s - 1)


def networks(count: int, seed: int) -> dict[str, tuple[Block, ...]]:
    """Random networks of the cifar space, and MobileNetV2 at 224."""
    space, rng = load_space("cifar"), np.random.default_rng(seed)
    drawn = {
        f"cifar {n}": tuple(
            Block(choices[rng.integers(len(choices))], layer)
            for layer, choices in zip(space.layers, space.choices, strict=True)
        )
        for n in range(count)
    }
    return {**drawn, "mobilenet_v2 224": mobilenet("mobilenet_v2", (3, 224, 224), 1000).blocks}


def module(blocks: Blocks, seed: int = 0) -> nn.Sequential:
    return nn.Sequential(*(seeded_module(block, seed) for block in blocks))


def even_cuts(tau_s: Sequence[float], parts: int) -> tuple[int, ...]:
    """Cut so that each device has about the same work, and at least one layer."""
    total, cuts = np.cumsum(tau_s), []
    for part in range(1, parts):
        cut = int(np.searchsorted(total, total[-1] * part / parts)) + 1
        cuts.append(min(max(cut, (cuts[-1] if cuts else 0) + 1), len(tau_s) - parts + part))
    return (*cuts, len(tau_s))


def chain(name: str, blocks: Blocks, tau: Tau, leader: Leader, requests: int) -> Result:
    """Predict and measure a network over the chain."""
    cuts = even_cuts([tau[block] for block in blocks], len(CHAIN))
    exported = export_network(module(blocks), (1, *blocks[0].layer.input_shape))
    starts, told = (0, *cuts[:-1]), leader.collect()
    pieces = tuple(
        Piece(
            device,
            "chain",
            first + 1,
            last,
            (Target(CHAIN[m + 1]),) if m + 1 < len(CHAIN) else (),
        )
        for m, (device, first, last) in enumerate(zip(CHAIN, starts, cuts, strict=True))
    )
    sent = [4 * blocks[cut - 1].layer.output_elements for cut in cuts[:-1]]
    pairs = list(zip(CHAIN, CHAIN[1:], strict=False))
    links = leader.measure_links(pairs, sorted({1024, *sent, max(sent) // 2}))
    tau_s = [part_s(blocks[a:b], tau, told[d]["call_s"]) for d, a, b in zip(CHAIN, starts, cuts, strict=True)]
    epsilon_s = [links[pair].epsilon_s(size) for pair, size in zip(pairs, sent, strict=True)]
    predicted_s = completion_latency(tau_s, [*epsilon_s, 0.0])
    leader.ship(pieces, {"chain": exported})
    return measured("chain", name, predicted_s, exported, leader, requests, links)


def part_s(blocks: Blocks, tau: Tau, call_s: float) -> float:
    """Seconds of a part by the table: measured whole where it is there, else the sum of its blocks."""
    part = Part(tuple(blocks))
    return call_s + tau.get(part, sum(tau[block] for block in blocks))


def measured(
    topology: str, name: str, predicted_s: float, exported: Any, leader: Leader, requests: int, links: Any
) -> Result:
    rng = np.random.default_rng(0)
    first = exported if isinstance(exported, Exported) else exported[0]
    xs = [rng.standard_normal(first.shapes[0]).astype(np.float32) for _ in range(8)]
    answers = [leader.ask(xs[n % 8], timeout_s=30) for n in range(requests + 10)]
    expected = [whole(exported, x) for x in xs]
    difference = max(float(np.abs(answer.logits - expected[n % 8]).max()) for n, answer in enumerate(answers))
    seconds = [completion_s(answer, links) for answer in answers[10:]]
    return Result(topology, name, predicted_s, float(np.median(seconds)), difference)


def whole(exported: Any, x: Any) -> Any:
    """Run the undivided network in torch."""
    if isinstance(exported, Exported):
        return exported.run(x)
    trunk, branches, tail = exported
    y = trunk.run(x)
    return tail.run(np.sum([branch.run(y) for branch in branches], axis=0))


def mesh(name: str, blocks: Blocks, tau: Tau, leader: Leader, requests: int) -> Result:
    """Predict and measure a network of three branches over the mesh of Fig. 2(b)."""
    trunk, branch, tail = mesh_parts(blocks)
    told, n1 = leader.collect(), len(trunk) // 2
    shape = (1, *blocks[0].layer.input_shape)
    parts = [export_network(module(trunk), shape)]
    parts += [export_network(module(branch, seed), parts[0].shapes[-1]) for seed in (1, 2, 3)]
    parts.append(export_network(module(tail), parts[1].shapes[-1]))
    segments = dict(zip(("trunk", "b1", "b2", "b3", "tail"), parts, strict=True))
    children = MESH[2:5]
    pieces = (
        Piece("ue", "trunk", 1, n1, (Target("sbs"),)),
        Piece("sbs", "trunk", n1 + 1, len(trunk), tuple(Target(child) for child in children)),
        *(
            Piece(child, f"b{n + 1}", 1, len(branch), (Target("cloud", branch=n),))
            for n, child in enumerate(children)
        ),
        Piece("cloud", "tail", 1, len(tail), (), joined=3),
    )
    pairs = [("ue", "sbs"), *(("sbs", c) for c in children), *((c, "cloud") for c in children)]
    sent = [4 * layers[-1].layer.output_elements for layers in (trunk[:n1], trunk, branch)]
    links = leader.measure_links(pairs, sorted({1024, *sent, max(sent) // 2}))
    branches = [
        Branch(
            links["sbs", child].epsilon_s(sent[1]),
            part_s(branch, tau, told[child]["call_s"]),
            links[child, "cloud"].epsilon_s(sent[2]),
        )
        for child in children
    ]
    predicted_s = completion_latency(
        [part_s(trunk[:n1], tau, told["ue"]["call_s"]), part_s(tail, tau, told["cloud"]["call_s"])],
        [links["ue", "sbs"].epsilon_s(sent[0]), 0.0],
        part_s(trunk[n1:], tau, told["sbs"]["call_s"]),
        branches,
    )
    leader.ship(pieces, segments)
    return measured("mesh", name, predicted_s, (parts[0], parts[1:4], parts[4]), leader, requests, links)


def mesh_parts(blocks: Blocks) -> tuple[Blocks, Blocks, Blocks]:
    """Cut a network in trunk, branch and tail: two fifths, two fifths, and the rest."""
    n = len(blocks)
    return blocks[: 2 * n // 5], blocks[2 * n // 5 : 4 * n // 5], blocks[4 * n // 5 :]
