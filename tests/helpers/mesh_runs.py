"""A finished mesh run without its training: result.json as a search writes it, operations chosen by hand."""

import json
from dataclasses import asdict
from pathlib import Path

from tiny_setup import rooflines
from torch import nn

from jmsnas.architecture import Architecture
from jmsnas.nas.derivation.derive import DerivedArchitecture
from jmsnas.nas.derivation.target import resolve_target
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.latency.split_map import simulated_predictors
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run_folder import RunLog, SearchSetup, write_result
from jmsnas.nas.search.session import SearchResult
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.space_file import load_space
from jmsnas.topology import Topology, load_topology
from jmsnas.workspace import Workspace


def write_mesh_run(workspace: Workspace, name: str, t_const_s: float | None = None) -> Path:
    """Write a run on digits over the built-in mesh: the first candidates under their best split."""
    topology: Topology = load_topology("mesh")
    space = load_space("digits", branches=3)
    lut = build_lut(space, topology, simulated_predictors(topology))
    indices = (0,) * space.N
    latency_s, placement = lut.best(indices)
    derived = DerivedArchitecture(indices, placement, latency_s, -1.0, -1.0)
    epochs = tuple(
        EpochRecord("search", n, 1.0, 0.5, 1.0, 0.5, latency_s, 1.0, 1.0, latency_s, 0.5 + 0.1 * n)
        for n in (1, 2)
    )
    target = resolve_target(lut, t_const_s)
    result = SearchResult(
        target, Architecture(tuple(choices[0] for choices in space.choices)), derived, True, derived,
        latency_s, lut.mask_NR / lut.mask_NR.sum(1, keepdims=True), epochs, 0.4, 0.8, nn.Sequential(),
    )  # fmt: skip
    folder = workspace.run(name)
    folder.mkdir(parents=True)
    write_result(folder, SearchSetup(space, topology, rooflines(topology), lut, "digits"), result)
    config = SearchConfig(t_const_s=target.t_const_s, warmup_epochs=1, search_epochs=1, final_epochs=1)
    (folder / "config.json").write_text(
        json.dumps({**asdict(config), "space": "digits", "dataset": "digits", "network": "mesh"})
    )
    log = RunLog(folder)
    for epoch in epochs:
        log(epoch)
    return folder
