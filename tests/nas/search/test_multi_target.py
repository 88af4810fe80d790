import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_search import CONFIG, LUT
from tiny_setup import tiny_search_setup

from jmsnas.datasets.catalog import load_dataset
from jmsnas.errors import InfeasibleError, InputError
from jmsnas.nas.derivation.target import targets_in_range
from jmsnas.nas.search.multi_target import (
    ParallelOptions,
    SearchRequest,
    front_group,
    run_groups,
    run_request,
    targets_group,
)
from jmsnas.nas.search.run import RunOptions
from jmsnas.nas.search.run_folder import SearchSetup, read_log
from jmsnas.workspace import Workspace

TARGETS = targets_in_range(LUT, 3)
LOW_S, MIDDLE_S, HIGH_S = (target.t_const_s for target in TARGETS)


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> SearchSetup:
    return tiny_search_setup(monkeypatch)


def stages(folder: Path) -> list[str]:
    return [epoch.stage for epoch in read_log(folder)]


def test_several_targets_share_one_warm_up(tmp_path: Path, setup: SearchSetup) -> None:
    workspace, done = Workspace(tmp_path), list[str]()
    how = RunOptions(lambda count, total, what: done.append(what))
    name, runs = run_request(workspace, setup, CONFIG, SearchRequest((LOW_S, HIGH_S)), None, "new", how)
    assert name == "new" and [run.folder.name for run in runs] == ["new-1", "new-2"]
    assert stages(workspace.run("new")) == ["warm-up"]
    assert sum(what.startswith("warm-up") for what in done) == 1  # once for both
    for run, t_const_s in zip(runs, (LOW_S, HIGH_S), strict=True):
        assert run.target.t_const_s == t_const_s
        assert 0.97 * t_const_s <= run.derived.latency_s <= t_const_s
        assert stages(run.folder) == ["warm-up", "search", "search", "final", "final"]
    # Each is what a search for its target alone would have found.
    alone = run_request(workspace, setup, CONFIG, SearchRequest((HIGH_S,)), "alone", "")[1][0]
    assert {**alone.document, "name": ""} == {**runs[1].document, "name": ""}


def test_a_front_derives_several_networks_from_one_search(tmp_path: Path, setup: SearchSetup) -> None:
    workspace = Workspace(tmp_path)
    _, runs = run_request(workspace, setup, CONFIG, SearchRequest(front=3), "front", "")
    assert stages(workspace.run("front")) == ["warm-up", "search", "search"]
    assert [run.target.t_const_s for run in runs] == [LOW_S, MIDDLE_S, HIGH_S]
    latencies = [run.derived.latency_s for run in runs]
    assert latencies == sorted(latencies) and len(set(latencies)) == 3
    assert len({run.probabilities for run in runs}) == 1  # of one and the same search


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, setup: SearchSetup) -> None:
    def stop_at(count: int) -> RunOptions:
        seen = [0]

        def stop(done: float, total: float, what: str) -> None:
            seen[0] += 1
            if seen[0] == count:
                raise KeyboardInterrupt

        return RunOptions(stop)

    workspace, asked = Workspace(tmp_path), SearchRequest((LOW_S, HIGH_S))
    whole = run_request(workspace, setup, CONFIG, asked, "whole", "")[1]
    for count in (1, 3, 6):
        with pytest.raises(KeyboardInterrupt):
            run_request(workspace, setup, CONFIG, asked, None, f"new-{count}", stop_at(count))
        # Without a name, the same command finds what it had begun.
        name, runs = run_request(workspace, setup, CONFIG, asked, None, "another")
        assert name == f"new-{count}"
        for run, other in zip(runs, whole, strict=True):
            assert {**run.document, "name": ""} == {**other.document, "name": ""}


def test_a_finished_run_is_not_gone_on_with(tmp_path: Path, setup: SearchSetup) -> None:
    workspace = Workspace(tmp_path)
    assert run_request(workspace, setup, CONFIG, SearchRequest(), None, "first")[0] == "first"
    assert run_request(workspace, setup, CONFIG, SearchRequest(), None, "second")[0] == "second"


def test_points_in_parallel_are_what_they_are_in_turn(tmp_path: Path, setup: SearchSetup) -> None:
    # Other processes load the images themselves: here too, then, all of the digits.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("jmsnas.nas.search.run.load_dataset", load_dataset)
        config = replace(CONFIG, final_epochs=1, batch_size=128)
        groups = [
            targets_group(f"s{seed}", setup, replace(config, seed=seed), (TARGETS[0], TARGETS[2]))
            for seed in (0, 1)
        ]
        told: list[str] = []
        how = RunOptions(lambda done, total, what: told.append(what))
        parallel = run_groups(Workspace(tmp_path / "a"), groups, how, ParallelOptions(jobs=2))
        assert told == ["1 of 2 shared epochs", "2 of 2 shared epochs"] + [
            f"{k} of 4 targets" for k in (1, 2, 3, 4)
        ]
        in_turn = run_groups(Workspace(tmp_path / "b"), groups)
    for runs, others in zip(parallel, in_turn, strict=True):
        assert [run.document for run in runs] == [run.document for run in others]
    front = json.loads((tmp_path / "a" / "runs" / "s1" / "front.json").read_text())
    assert [point["run"] for point in front["points"]] == ["s1-1", "s1-2"]


def test_what_cannot_be_is_refused_before_training(tmp_path: Path, setup: SearchSetup) -> None:
    with pytest.raises(
        InputError, match="--front derives from one search, got 2 targets: expected at most one --t-const"
    ):
        SearchRequest((LOW_S, HIGH_S), front=2)
    with pytest.raises(InfeasibleError, match="no architecture meets T_const"):
        run_request(Workspace(tmp_path), setup, CONFIG, SearchRequest((HIGH_S, LOW_S / 10)), "x", "")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(InputError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        run_groups(
            Workspace(tmp_path),
            [front_group("f", setup, CONFIG, TARGETS[:1])],
            parallel=ParallelOptions(dask="tcp://127.0.0.1:9"),
        )
