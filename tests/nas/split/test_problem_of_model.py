import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_published import records, write_published

from jmsnas.cost import Operator
from jmsnas.device import Device
from jmsnas.errors import EstimatorError, InputError
from jmsnas.estimators.fit_tables import fit_tables
from jmsnas.estimators.lookup import find_device_model
from jmsnas.mobilenets import mobilenet
from jmsnas.nas.graph.fork_join import fork_join_inputs
from jmsnas.nas.graph.model import Model, Tensor, Unit, model_of_blocks, model_of_part
from jmsnas.nas.graph.unit_profile import (
    ModelProfile,
    profile_path,
    read_profile,
    units_digest,
    write_profile,
)
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.load_model import load_model
from jmsnas.nas.run_result import RunResult
from jmsnas.nas.search.run import SearchInputs, prepare_search
from jmsnas.nas.split.general_topology import GeneralTopology, general_topology, load_general_topology
from jmsnas.nas.split.jpeg_size import jpeg_bytes
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem_of_model import problem_of_model, unit_latency
from jmsnas.profiler.simulation.roofline import block_latency_s, load_simulated_device
from jmsnas.profiler.table.parquet import read_table, write_table
from jmsnas.space import IDENTITY, Block, Layer, Part
from jmsnas.space_file import load_space
from jmsnas.topology import Link
from jmsnas.workspace import Workspace

PI4 = Device("pi4", "pi4", "UE")
LOCAL, CLOUD = Device("local", "local", ""), Device("cloud", "cloud", "")
TWO = GeneralTopology((LOCAL, CLOUD), (Link("local", "cloud", 25e6),))
TINY = Model(
    "tiny",
    (3, 8, 8),
    (
        Unit("conv 3x3 3->4", (0,), (Tensor("a", (1, 4, 8, 8)),), weights=(Tensor("w", (4, 3, 3, 3)),)),
        Unit("odd", (1,), (Tensor("b", (1, 10)),), unknown=("fft",)),
    ),
    "test",
)


def profile(model: Model) -> ModelProfile:
    return ModelProfile(
        2, model.name, "local", "torch", 1, units_digest(model), (1e-3, 2e-3), (0.9e-3, 1.9e-3),
        (1.1e-3, 2.2e-3), 3e-3, 2, "2026-11-24", {},
    )  # fmt: skip


def test_a_simulated_device_is_its_roofline(tmp_path: Path) -> None:
    part = mobilenet("mobilenet_v2", (3, 64, 64))
    topology = load_general_topology("chain")
    model = model_of_part(part, "mobilenet_v2", "")
    problem = problem_of_model(model, topology, Workspace(tmp_path))
    pi4 = load_simulated_device("pi4")
    assert problem.tau_NM[:, 0] == pytest.approx(
        [block_latency_s(pi4, "onnxruntime", block) for block in part.blocks]
    )
    assert problem.simulated == ("pi4", "laptop", "jetson", "cloud") and problem.provenance["pi4"].startswith(
        "SIMULATED"
    )
    assert problem.input_bytes == {"uint8": 12288.0, "float32": 49152.0}
    # The stem gives 32 maps of 32 x 32, four bytes a number.
    assert (
        problem.output_bytes_N[0] == 4 * 32 * 32 * 32 and problem.weight_bytes_N.sum() == 4 * model.parameters
    )
    assert problem.is_chain and problem.is_chain_topology


def test_a_profile_of_the_networks_own_units_counts(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    known = replace(TINY, units=(TINY.units[0], replace(TINY.units[1], unknown=())))
    write_profile(profile_path(workspace, "local", known, "torch"), profile(known))
    assert read_profile(workspace, "local", known, "torch") == profile(known)
    problem = problem_of_model(known, TWO, workspace)
    assert problem.tau_NM[:, 0].tolist() == [1e-3, 2e-3] and problem.high_NM[1, 0] == 2.2e-3
    assert problem.provenance["local"].startswith("measured: the model's own 2 units, torch")
    assert problem.simulated == ("cloud",)


def test_blocks_outside_the_training_range_are_refused(
    simulated_workspace: Workspace, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path)
    table = read_table(simulated_workspace.table("pi4"))
    # The simulated rows under another kind: U(.) treats them as measured.
    rows = tuple(replace(row, device="local", kind="measured") for row in table.rows)
    write_table(workspace.table("local"), replace(table, device="local", rows=rows))
    blocks = load_space("digits")
    part = Part(
        tuple(Block(choices[0], layer) for choices, layer in zip(blocks.choices, blocks.layers, strict=True))
    )
    problem = problem_of_model(model_of_part(part, "ours", ""), TWO, workspace)
    medians = {row.block: row.median_s for row in rows}
    assert problem.provenance["local"] == "U(.): 12 blocks by their own rows, 0 predicted"
    assert problem.tau_NM[:, 0] == pytest.approx([medians[block] for block in part.blocks])
    far = model_of_part(mobilenet("mobilenet_v1", (3, 224, 224)), "mobilenet_v1", "")
    with pytest.raises(
        EstimatorError, match="blocks of mobilenet_v1 are outside the training range of local"
    ):
        problem_of_model(far, TWO, workspace)
    wide = problem_of_model(far, TWO, workspace, extrapolate=True)
    assert np.isfinite(wide.tau_NM).all() and wide.extrapolated


def test_wide_intervals_of_a_published_table_are_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    rows = records(24)
    noisy = [
        row | {"device": "noisy", "latency_ms": row["latency_ms"] * (1, 2, 4)[n % 3]}
        for n, row in enumerate(rows)
    ]
    tables = [write_published(tmp_path / "a.parquet", rows), write_published(tmp_path / "b.parquet", noisy)]
    fit_tables(workspace, tables=tables, warn=lambda text: None)
    model = model_of_part(mobilenet("mobilenet_v2", (3, 32, 32)), "mobilenet_v2", "")
    board, link = Device("board", "some-board-cpu-2-threads", ""), Link("board", "cloud", 25e6)
    problem = problem_of_model(model, GeneralTopology((board, CLOUD), (link,)), workspace)
    assert (problem.published, problem.simulated) == (("board",), ("cloud",))
    assert problem.provenance["board"].startswith(
        "published by others: Some board, CPU, 2 threads, TensorFlow Lite; U"
    )
    assert problem.provenance["board"].endswith("of them beyond its table by wider intervals")
    with pytest.raises(
        EstimatorError,
        match="blocks of mobilenet_v2 are outside the training range of board, with an uncertainty of "
        "more than a factor 1.5 "
        "either way, as .* Run, on that machine: jmsnas profile --model mobilenet_v2",
    ):
        wide = replace(board, table="noisy-cpu-2-threads")
        problem_of_model(model, GeneralTopology((wide, CLOUD), (link,)), workspace)


def test_nothing_is_guessed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(
        EstimatorError, match="tiny has not been measured on local: .* jmsnas profile --model tiny"
    ):
        problem_of_model(TINY, TWO, workspace)
    with pytest.raises(EstimatorError, match="no figures of fft are published for cloud: tiny cannot"):
        two = GeneralTopology((CLOUD, replace(CLOUD, name="b")), (Link("cloud", "b", 1e6),))
        problem_of_model(TINY, two, workspace)
    path = profile_path(workspace, "local", TINY, "torch")
    write_profile(path, replace(profile(TINY), digest="other"))
    with pytest.raises(
        EstimatorError, match="is of another version of tiny, with other units, shapes or dtypes. Run: jmsnas"
    ):
        problem_of_model(TINY, TWO, workspace)
    for broken in (b"{", b"[]", json.dumps({"schema_version": 2}).encode()):
        path.write_bytes(broken)
        with pytest.raises(
            EstimatorError, match=r"tiny-3x8x8-[0-9a-f]{8}-torch.json is damaged, or not as expected \("
        ):
            problem_of_model(TINY, TWO, workspace)


def test_a_runs_network_is_the_same_by_name_and_by_folder(short_run: tuple[Workspace, RunResult]) -> None:
    workspace, run = short_run
    model = load_model(workspace, run.folder.name)
    assert len(run.blocks) == model.N and str(model.units[0].block).startswith("stem ")
    assert load_model(workspace, str(run.folder)).units == model.units


def test_names_and_sizes(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert (
        load_model(workspace, "mobilenet_v3_large", 96, 0.5).source == "mobilenet_v3_large, width 0.5, 96x96"
    )
    with pytest.raises(InputError, match="model nothing has no operators: expected one or more"):
        Model("nothing", (3, 8, 8), (), "")
    (tmp_path / "runs" / "broken").mkdir(parents=True)
    (tmp_path / "runs" / "broken" / "result.json").write_text('{"schema_version": 1}')
    with pytest.raises(InputError, match=r"broken/result.json has schema 1, this version reads 2"):
        load_model(workspace, "broken")


def test_jpeg_is_encoded(tmp_path: Path) -> None:
    from PIL import Image

    small, large = jpeg_bytes(32, 32), jpeg_bytes(64, 64)
    assert 0 < small < large < 3 * 64 * 64
    flat, noisy = tmp_path / "flat.png", tmp_path / "noisy.png"
    Image.new("RGB", (80, 60), "grey").save(flat)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(noisy)
    assert jpeg_bytes(48, 48, flat) < jpeg_bytes(48, 48, noisy)
    with pytest.raises(InputError, match="cannot read the image"):
        jpeg_bytes(48, 48, tmp_path / "none.png")


def first_blocks() -> tuple[Block, ...]:
    space = load_space("digits")
    return tuple(Block(cs[0], layer) for cs, layer in zip(space.choices, space.layers, strict=True))


def test_split_and_search_agree_on_a_run(short_run: tuple[Workspace, RunResult]) -> None:
    workspace, run = short_run
    model, topology = load_model(workspace, run.folder.name), general_topology(run.topology)
    result = split(problem_of_model(model, topology, workspace), SplitRequest("uint8", "strict"))
    assert result.timeline.latency_s == pytest.approx(run.derived.latency_s, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "policy"), [("chain", "strict"), ("chain", "stop-early"), ("mesh", "relay")]
)
def test_split_and_search_agree_on_any_operations(
    name: str, policy: str, simulated_workspace: Workspace, tmp_path: Path
) -> None:
    workspace = Workspace(Path(shutil.copytree(simulated_workspace.folder, tmp_path / "workspace")))
    setting = prepare_search(
        workspace, SearchInputs(name, "digits", "digits"), seed=0, warn=lambda text: None
    )
    # The result goes back to the first device in both.
    space, topology = setting.space, replace(setting.topology, policy=policy, returns=True)
    lut = build_lut(space, topology, setting.estimators)
    draw = np.random.default_rng(0)
    # The last candidate is Identity where a layer keeps its shape: it launches no operator, and is called.
    every = [tuple(int(draw.integers(len(choices))) for choices in space.choices) for _ in range(5)]
    for indices in (*every, tuple(len(choices) - 1 for choices in space.choices)):
        blocks = [Block(space.choices[n][i], space.layers[n]) for n, i in enumerate(indices)]
        inputs = fork_join_inputs(space.N, [list(branch) for branch in space.branches])
        model = model_of_blocks(blocks, inputs, "any", "")
        problem = problem_of_model(model, general_topology(topology), workspace)
        timeline = split(problem, SplitRequest(topology.input_encoding, topology.policy)).timeline
        assert timeline.latency_s == pytest.approx(lut.best_split(indices)[0], rel=1e-9)


def test_a_simulated_table_and_its_roofline_beyond_it(simulated_workspace: Workspace) -> None:
    table = read_table(simulated_workspace.table("pi4"))
    model = model_of_part(Part(first_blocks()), "ours", "")
    column = unit_latency(model, PI4, simulated_workspace)
    assert column.origin == "simulated"
    assert column.provenance == "SIMULATED: U(.): 12 blocks by their own rows, 0 predicted"
    rows = {row.block: row.median_s for row in table.rows}
    assert column.tau_N.tolist() == [rows[block] for block in first_blocks()]
    # `predict` uses the same U(.).
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


@pytest.mark.parametrize(
    ("operator", "joined_bytes"),
    [(Operator("add", 0, 0, 128, 128), 512), (Operator("add", 0, 0, 128, 64), 256)],
    ids=["concatenation", "sum"],
)
def test_the_unit_after_two_branches_tells_a_concatenation_from_a_sum(
    tmp_path: Path, operator: Operator, joined_bytes: float
) -> None:
    conv = Operator("conv", 1000, 10, 64, 64)
    own = (Tensor("x", (1, 1, 8, 8)),)
    units = [Unit(f"conv {n}", (min(n, 1),), own, (conv,)) for n in range(3)]
    units += [Unit("join", (2, 3), (Tensor("y", (1, operator.written // 64, 8, 8)),), (operator,))]
    model = Model("forked", (1, 8, 8), tuple(units), "test")
    problem = problem_of_model(model, load_general_topology("mesh"), Workspace(tmp_path))
    assert problem.fork and problem.joined_bytes == joined_bytes
