"""A finished mesh run without its training: result.json as a search writes it, operations chosen by hand."""

import json
from pathlib import Path

from tiny_setup import rooflines

from jmsnas.architecture import Architecture
from jmsnas.blocks import build_module
from jmsnas.nas.derivation.derive import DerivedArchitecture
from jmsnas.nas.derivation.target import resolve_target
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.latency.split_map import simulated_predictors
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run_folder import RunLog, SearchSetup, run_configuration, write_result
from jmsnas.nas.search.session import SearchResult
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.supernet.supernet import DerivedModel
from jmsnas.space import Block
from jmsnas.space_file import load_space
from jmsnas.topology import Topology, load_topology
from jmsnas.workspace import Workspace


def write_mesh_run(
    workspace: Workspace, name: str, t_const_s: float | None = None, topology: Topology | None = None
) -> Path:
    """Write a run on digits over a topology (the built-in mesh): the first candidates, untrained."""
    topology = topology or load_topology("mesh")
    space = load_space("digits", branches=len(topology.children))
    lut = build_lut(space, topology, simulated_predictors(topology))
    indices = (0,) * space.N
    latency_s, placement = lut.best_split(indices)
    derived = DerivedArchitecture(indices, placement, latency_s, -1.0, -1.0)
    epochs = tuple(
        EpochRecord("search", n, 1.0, 0.5, 1.0, 0.5, latency_s, 1.0, 1.0, latency_s, 0.5 + 0.1 * n)
        for n in (1, 2)
    )
    target = resolve_target(lut, t_const_s)
    candidates = tuple(choices[0] for choices in space.choices)
    blocks = [Block(*pair) for pair in zip(candidates, space.layers, strict=True)]
    result = SearchResult(
        target, Architecture(candidates), derived, True, derived, latency_s,
        lut.mask_NR / lut.mask_NR.sum(1, keepdims=True), epochs, 0.4, 0.8,
        DerivedModel(space, [build_module(block) for block in blocks]),
    )  # fmt: skip
    folder = workspace.run(name)
    folder.mkdir(parents=True)
    setup = SearchSetup(space, topology, rooflines(topology), lut, "digits")
    write_result(folder, setup, result)
    config = SearchConfig(t_const_s=target.t_const_s, warmup_epochs=1, search_epochs=1, final_epochs=1)
    (folder / "config.json").write_text(json.dumps(run_configuration(config, setup)))
    log = RunLog(folder)
    for epoch in epochs:
        log(epoch)
    return folder
