import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from jmsnas.blocks import build
from jmsnas.errors import EstimatorError, InputError, NetworkError
from jmsnas.estimators.store import estimator_is_current
from jmsnas.nas.prepare import estimators_for
from jmsnas.nas.run import Run, prepare
from jmsnas.nas.run_folder import read_log, read_result
from jmsnas.network import load_network
from jmsnas.profiler.parquet import read_table
from jmsnas.space import Block, Candidate
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

SPACE = load_space("digits")


def test_a_run_folder_holds_all_there_is_to_know(short_run: tuple[Workspace, Run]) -> None:
    place, run = short_run
    assert run.folder == place.run("short")
    config = json.loads((run.folder / "config.json").read_text())
    assert config["t_const_s"] == run.document["target"]["t_const_s"] and config["seed"] == 0
    assert read_result(run.folder) == json.loads(json.dumps(run.document))
    assert [line["stage"] for line in read_log(run.folder)] == ["warm-up", "search", "final"]


def test_the_terms_add_up_and_simulated_devices_are_marked(short_run: tuple[Workspace, Run]) -> None:
    document = short_run[1].document
    terms = document["derived"]["terms"]
    total = sum(term["tau_s"] + term["epsilon_s"] for term in terms)
    assert total == pytest.approx(document["derived"]["latency_s"], rel=1e-12)
    assert [n for term in terms for n in term["layers"]] == list(range(1, 13))
    assert all(device["simulated"] for device in document["network"]["devices"])
    # cloud only: 64 bytes over three links, and every layer on the cloud.
    lut = short_run[1].setting.lut
    indices = tuple(
        SPACE.choices[n].index(Candidate.parse(name))
        for n, name in enumerate(document["derived"]["candidates"])
    )
    links = 8 * 64 * (1 / 25e6 + 1 / 50e6 + 1 / 200e6)
    assert document["cloud_only"]["latency_s"] == pytest.approx(links + lut.tau_NM(indices)[:, 3].sum())


def test_the_weights_are_those_of_the_named_blocks(short_run: tuple[Workspace, Run]) -> None:
    document, folder = short_run[1].document, short_run[1].folder
    weights = load_file(folder / "weights.safetensors")
    expected = {
        f"{n}.{key}": tensor.shape
        for n, (name, layer) in enumerate(zip(document["derived"]["candidates"], SPACE.layers, strict=True))
        for key, tensor in build(Block(Candidate.parse(name), layer)).state_dict().items()
    }
    assert {key: tensor.shape for key, tensor in weights.items()} == expected


def test_a_run_that_is_missing_broken_or_of_another_schema(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished run .*Run: jmsnas search --topology chain"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="result.json is not the result of a run"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text('{"schema_version": 9}')
    with pytest.raises(InputError, match="has schema 9, this version reads 1. Run the search again"):
        read_result(tmp_path)


def test_devices_nobody_profiled_are_simulated_and_say_so(simulated_workspace: Workspace) -> None:
    assert simulated_workspace.tables == ("cloud", "jetson", "laptop", "pi4")
    for device in simulated_workspace.tables:
        table = read_table(simulated_workspace.table(device))
        assert {row.kind for row in table.rows} == {"simulated"}
        folder = simulated_workspace.estimator(device, "onnxruntime-t1-b1-f32")
        assert estimator_is_current(folder, table)


def test_a_second_time_nothing_is_fitted_again(simulated_workspace: Workspace) -> None:
    recipe = simulated_workspace.estimator("pi4", "onnxruntime-t1-b1-f32") / "recipe.json"
    before = recipe.stat().st_mtime_ns
    estimators = estimators_for(load_network("chain"), SPACE, simulated_workspace)
    assert set(estimators) == {"pi4", "laptop", "jetson", "cloud"}
    assert recipe.stat().st_mtime_ns == before


def test_a_host_that_was_not_profiled_is_never_simulated(tmp_path: Path) -> None:
    with pytest.raises(
        EstimatorError, match="device local has no latency table .*Run: jmsnas profile --device local"
    ):
        estimators_for(load_network("desk"), SPACE, Workspace(tmp_path))
    assert not (tmp_path / "tables" / "local.parquet").exists()


def test_a_mesh_is_not_searched_as_a_chain(tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_text(
        'name = "m"\n[tree]\nroot = "a"\nchildren = ["b"]\n'
        '[[device]]\nname = "a"\n[[device]]\nname = "b"\n[[device]]\nname = "c"\n'
        '[[link]]\nfrom = "a"\nto = "b"\nrate = "1Mbit/s"\n[[link]]\nfrom = "b"\nto = "c"\nrate = "1Mbit/s"\n'
    )
    with pytest.raises(NetworkError, match="network m is a mesh: a chain is expected by --topology chain"):
        prepare(Workspace(tmp_path), str(tmp_path / "mesh.toml"), "digits", "digits", 0)
