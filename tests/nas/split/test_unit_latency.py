import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jmsnas.device import Device
from jmsnas.estimators.lookup import find_device_model
from jmsnas.nas.graph.fork_join import fork_join_inputs, mesh_tree
from jmsnas.nas.graph.model import model_of_blocks, model_of_part
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.load_model import load_model, topology_of_run
from jmsnas.nas.search.run import Run, prepare_search
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem_of_model import problem_of_model
from jmsnas.nas.split.unit_latency import unit_latency
from jmsnas.profiler.simulation.roofline import block_latency_s, load_simulated_device
from jmsnas.profiler.table.parquet import read_table
from jmsnas.space import IDENTITY, Block, Layer, Part
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

PI4 = Device("pi4", "pi4", "UE")


def first_blocks() -> tuple[Block, ...]:
    space = load_space("digits")
    return tuple(Block(cs[0], layer) for cs, layer in zip(space.choices, space.layers, strict=True))


def test_split_says_what_the_search_said(short_run: tuple[Workspace, Run]) -> None:
    place, run = short_run
    model, topology = load_model(place, run.folder.name), topology_of_run(run.document, run.folder)
    answer = split(
        problem_of_model(model, topology.devices, topology.links, place), SplitRequest("uint8", "strict")
    )
    assert answer.timeline.latency_s == pytest.approx(run.document["derived"]["latency_s"], rel=1e-9)


@pytest.mark.parametrize(
    ("name", "policy"), [("chain", "strict"), ("chain", "stop-early"), ("mesh", "relay")]
)
def test_split_and_search_agree_on_any_operations(
    name: str, policy: str, simulated_workspace: Workspace, tmp_path: Path
) -> None:
    place = Workspace(Path(shutil.copytree(simulated_workspace.folder, tmp_path / "workspace")))
    setting = prepare_search(place, name, "digits", "digits", seed=0, warn=lambda text: None)
    # The result goes back to the first device in both.
    space, topology = setting.space, replace(setting.topology, policy=policy, returns=True)
    lut = build_lut(space, topology, setting.estimators)
    draw = np.random.default_rng(0)
    # The last candidate is Identity where a layer keeps its shape: it launches nothing, and is called.
    every = [tuple(int(draw.integers(len(choices))) for choices in space.choices) for _ in range(5)]
    for indices in (*every, tuple(len(choices) - 1 for choices in space.choices)):
        blocks = [Block(space.choices[n][i], space.layers[n]) for n, i in enumerate(indices)]
        inputs = fork_join_inputs(space.N, [list(branch) for branch in space.branches])
        model = model_of_blocks(blocks, inputs, "any", "")
        costs = problem_of_model(model, topology.devices, topology.links, place)
        costs = replace(costs, tree=mesh_tree(topology), returns=True)
        told = split(costs, SplitRequest(topology.input_encoding, topology.policy)).timeline
        assert told.latency_s == pytest.approx(lut.best(indices)[0], rel=1e-9)


def test_a_table_speaks_and_a_roofline_beyond_it(simulated_workspace: Workspace) -> None:
    table = read_table(simulated_workspace.table("pi4"))
    model = model_of_part(Part(first_blocks()), "ours", "")
    column = unit_latency(model, PI4, simulated_workspace)
    assert column.origin == "simulated"
    assert column.provenance == "SIMULATED: U(.): 12 blocks by their own rows, 0 predicted"
    rows = {row.block: row.median_s for row in table.rows}
    assert column.tau_N.tolist() == [rows[block] for block in first_blocks()]
    # predict asks the same U(.).
    assert find_device_model(simulated_workspace, "pi4").estimator.predict_s(first_blocks()).tolist() == list(
        column.tau_N
    )
    far = Block(first_blocks()[1].candidate, Layer(64, 64, 1, 112, 112))
    column = unit_latency(model_of_part(Part((far,)), "far", ""), PI4, simulated_workspace)
    assert column.provenance.endswith("0 blocks by their own rows, 0 predicted, 1 by the roofline")
    assert column.tau_N[0] == block_latency_s(load_simulated_device("pi4"), "onnxruntime", far)


def test_identity_costs_the_bare_call_without_a_table_too(tmp_path: Path) -> None:
    block = Block(IDENTITY, Layer(16, 16, 1, 8, 8))
    column = unit_latency(model_of_part(Part((block,)), "nothing", ""), PI4, Workspace(tmp_path))
    assert column.tau_N[0] == block_latency_s(load_simulated_device("pi4"), "onnxruntime", block) > 0
