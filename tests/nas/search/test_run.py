import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from roofline_predictor import Roofline
from safetensors.torch import load_file
from tiny_search import CONFIG, LUT, TABLE, TOPOLOGY
from tiny_setup import tiny_search_setup

from jmsnas.blocks import build_module
from jmsnas.errors import EstimatorError, InputError, StorageError, TrainingError
from jmsnas.estimators.store.estimator import estimator_is_current
from jmsnas.nas.derivation.target import resolve_target
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.latency.load_estimators import load_estimators
from jmsnas.nas.run_result import RunResult, read_result
from jmsnas.nas.search.multi_target import SearchGroup, run_shared_epochs
from jmsnas.nas.search.run import RunOptions, SearchInputs, prepare_search, run_search
from jmsnas.nas.search.run_folder import read_log, run_lock
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.supernet.checkpoint import read_checkpoint
from jmsnas.nas.supernet.training import weight_step
from jmsnas.profiler.simulation.roofline import load_simulated_device
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.table.parquet import read_table
from jmsnas.space import Block, Candidate
from jmsnas.space_file import load_space, space_from_toml
from jmsnas.topology import load_topology
from jmsnas.workspace import Workspace

SPACE = load_space("digits")


def test_a_run_folder_holds_all_there_is_to_know(short_run: tuple[Workspace, RunResult]) -> None:
    workspace, run = short_run
    assert run.folder == workspace.run("short")
    config = json.loads((run.folder / "config.json").read_text())
    assert config["t_const_s"] == run.target.t_const_s and config["seed"] == 0
    assert read_result(run.folder) == run
    assert json.loads((run.folder / "result.json").read_text()) == json.loads(json.dumps(run.document))
    assert [epoch.stage for epoch in read_log(run.folder)] == ["warm-up", "search", "final"]


def test_the_terms_add_up_and_simulated_devices_are_marked(short_run: tuple[Workspace, RunResult]) -> None:
    document = short_run[1].document
    terms = document["derived"]["terms"]
    total = sum(term["tau_s"] + term["epsilon_s"] for term in terms)
    assert total == pytest.approx(document["derived"]["latency_s"], rel=1e-12)
    assert [n for term in terms for n in term["layers"]] == list(range(1, 13))
    assert set(short_run[1].origins.values()) == {"simulated"}
    # cloud only: 64 bytes over three links, and every layer on the cloud.
    lut = prepare_search(short_run[0], SearchInputs("chain", "digits", "digits"), seed=0).lut
    indices = tuple(
        SPACE.choices[n].index(Candidate.parse(name))
        for n, name in enumerate(document["derived"]["candidates"])
    )
    links = 8 * 64 * (1 / 25e6 + 1 / 50e6 + 1 / 200e6)
    assert document["cloud_only"]["latency_s"] == pytest.approx(links + lut.tau_NM(indices)[:, 3].sum())


def test_the_weights_are_those_of_the_named_blocks(short_run: tuple[Workspace, RunResult]) -> None:
    document, folder = short_run[1].document, short_run[1].folder
    weights = load_file(folder / "weights.safetensors")
    expected = {
        f"{n}.{key}": tensor.shape
        for n, (name, layer) in enumerate(zip(document["derived"]["candidates"], SPACE.layers, strict=True))
        for key, tensor in build_module(Block(Candidate.parse(name), layer)).state_dict().items()
    }
    assert {key: tensor.shape for key, tensor in weights.items()} == expected


def test_a_run_that_is_missing_broken_or_of_another_schema(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished run .*Run: jmsnas search --topology chain"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="result.json is damaged, or not as expected"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text('{"schema_version": 9}')
    with pytest.raises(InputError, match="has schema 9, this version reads 2. Run the search again"):
        read_result(tmp_path)


def test_devices_nobody_profiled_are_simulated_and_say_so(simulated_workspace: Workspace) -> None:
    assert simulated_workspace.tables == ("cloud", "jetson", "laptop", "pi4")
    for device in simulated_workspace.tables:
        table = read_table(simulated_workspace.table(device))
        assert {row.kind for row in table.rows} == {"simulated"}
        # The paper's three upper machines are GPUs.
        key = RuntimeKey("onnxruntime", processor="cpu" if device == "pi4" else "cuda")
        folder = simulated_workspace.estimator(device, key.label)
        assert estimator_is_current(folder, table)


def test_a_second_time_nothing_is_fitted_again(simulated_workspace: Workspace) -> None:
    recipe = simulated_workspace.estimator("pi4", "onnxruntime-t1-b1-f32") / "recipe.json"
    before = recipe.stat().st_mtime_ns
    estimators = load_estimators(load_topology("chain"), SPACE, simulated_workspace)
    assert set(estimators) == {"pi4", "laptop", "jetson", "cloud"}
    assert recipe.stat().st_mtime_ns == before


def test_a_host_that_was_not_profiled_is_never_simulated(tmp_path: Path) -> None:
    with pytest.raises(
        EstimatorError, match="device local has no latency table .*Run: jmsnas profile --device local"
    ):
        load_estimators(load_topology("desk"), SPACE, Workspace(tmp_path))
    assert not (tmp_path / "tables" / "local.parquet").exists()


def logged(folder: Path) -> list[EpochRecord]:
    return [replace(epoch, seconds=0.0) for epoch in read_log(folder)]


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, workspace = tiny_search_setup(monkeypatch), Workspace(tmp_path)
    whole = run_search(workspace, "whole", setup, CONFIG)
    for stop_at in range(1, 6):

        def stop(done: float, total: float, what: str, at: int = stop_at) -> None:
            if done == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_search(workspace, f"stopped-{stop_at}", setup, CONFIG, RunOptions(stop))
        folder = workspace.run(f"stopped-{stop_at}")
        assert (folder / "checkpoint.pt").exists() and len(read_log(folder)) == stop_at
        with (folder / "log.jsonl").open("a") as log:
            log.write('{"stage": "torn')  # a line that a kill cut off
        run = run_search(workspace, f"stopped-{stop_at}", setup, CONFIG)
        assert run.document == {**whole.document, "name": folder.name}
        assert logged(folder) == logged(whole.folder)
        assert (folder / "weights.safetensors").read_bytes() == (
            whole.folder / "weights.safetensors"
        ).read_bytes()
        assert not (folder / "checkpoint.pt").exists()


_HOLDER = """
import sys
from pathlib import Path
from jmsnas.nas.search.run_folder import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_search_of_the_same_name_is_refused_until_the_first_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, workspace = tiny_search_setup(monkeypatch), Workspace(tmp_path)
    group = SearchGroup("one", setup, CONFIG, (resolve_target(LUT, None),), 1)
    command = [sys.executable, "-c", _HOLDER, str(workspace.run("one"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        busy = rf"another search \(process {holder.pid}\) is running in .*one: wait until it ends, or give"
        with pytest.raises(TrainingError, match=busy):
            run_search(workspace, "one", setup, CONFIG)
        with pytest.raises(TrainingError, match=busy):
            run_shared_epochs(workspace, group, RunOptions())
        holder.kill()
    assert [path.name for path in workspace.run("one").iterdir()] == [".lock"], "nothing was written"
    run = run_search(workspace, "one", setup, CONFIG)
    with run_lock(run.folder):
        assert run_search(workspace, "one", setup, CONFIG) == run, "a finished run can always be read"


@pytest.mark.parametrize("stop_at", [1, 3, 5])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_moved_during_the_search_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int, replaced: bool
) -> None:
    setup, workspace = tiny_search_setup(monkeypatch), Workspace(tmp_path)
    folder, moved = workspace.run("one"), tmp_path / "moved"

    def move(done: float, total: float, what: str) -> None:
        if done == stop_at:
            folder.rename(moved)
            if replaced:
                folder.mkdir()

    with pytest.raises(StorageError, match=r"one was moved or removed while the search was running: move it"):
        run_search(workspace, "one", setup, CONFIG, RunOptions(move))
    assert not folder.exists() or not list(folder.iterdir()), "no half run in its place"
    if replaced:
        folder.rmdir()
    moved.rename(folder)
    assert len(read_log(folder)) == stop_at
    assert run_search(workspace, "one", setup, CONFIG).document == (
        run_search(workspace, "other", setup, CONFIG).document | {"name": "one"}
    )


def test_a_loss_that_explodes_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, workspace, steps = tiny_search_setup(monkeypatch), Workspace(tmp_path), [0]

    def explode(*given: Any) -> tuple[float, int]:
        steps[0] += 1
        if steps[0] == 9:  # four batches an epoch: in the third
            raise TrainingError(
                "the loss became nan in stage one: lower the learning rate (lr) and run again"
            )
        return weight_step(*given)

    with monkeypatch.context() as patched:
        patched.setattr("jmsnas.nas.search.stages.weight_step", explode)
        with pytest.raises(TrainingError, match="the loss became nan"):
            run_search(workspace, "nan", setup, CONFIG)
    saved = read_checkpoint(workspace.run("nan") / "checkpoint.pt")
    assert saved is not None and saved["one"]["epoch"] == 2
    assert run_search(workspace, "nan", setup, CONFIG).accuracy.test >= 0


def test_a_folder_of_another_search_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup, workspace = tiny_search_setup(monkeypatch), Workspace(tmp_path)
    run_search(workspace, "one", setup, CONFIG)
    other = replace(setup, space=replace(setup.space, name="cifar"))
    with pytest.raises(
        InputError, match=r"run one is another search \(space tiny, now cifar\): give another"
    ):
        run_search(workspace, "one", other, CONFIG)
    U_NRM = setup.lut.U_NRM * 1.001  # measured again
    moved = replace(setup, lut=replace(setup.lut, U_NRM=U_NRM))
    config = replace(CONFIG, t_const_s=resolve_target(setup.lut, None).t_const_s)
    with pytest.raises(InputError, match="run one is another search .space_and_latencies "):
        run_search(workspace, "one", moved, config)
    (workspace.run("one") / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is damaged.*Give another --name, or remove"):
        run_search(workspace, "one", setup, CONFIG)


def test_a_checkpoint_of_another_space_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup, workspace = tiny_search_setup(monkeypatch), Workspace(tmp_path)
    run_shared_epochs(workspace, SearchGroup("here", setup, CONFIG, (), 1), RunOptions())
    wide = dict(TABLE, stem={"channels": 6, "stride": 2}, stage=[{"layers": 3, "channels": 6, "stride": 1}])
    space = space_from_toml(wide, "wide")
    rooflines = {d.name: Roofline(load_simulated_device(d.table)) for d in TOPOLOGY.devices}
    there = replace(setup, space=space, lut=build_lut(space, TOPOLOGY, rooflines))
    run_shared_epochs(workspace, SearchGroup("there", there, CONFIG, (), 1), RunOptions())
    foreign = (workspace.run("here") / "checkpoint.pt").read_bytes()
    (workspace.run("there") / "checkpoint.pt").write_bytes(foreign)
    with pytest.raises(InputError, match="the checkpoint is of another search space or data set: remove"):
        run_shared_epochs(workspace, SearchGroup("there", there, CONFIG, (), 1), RunOptions())
