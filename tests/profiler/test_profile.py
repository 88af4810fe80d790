import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from profiling_jobs import BLOCKS, EAGER, PART, SyntheticRunner, run_job_here

from jmsnas.errors import DeviceError, JmsnasError
from jmsnas.profiler.host.host_state import HostState
from jmsnas.profiler.profile import BUDGET_PER_BLOCK_S, ProfileOptions, profile_device, update_table
from jmsnas.profiler.session.profiling_session import JobRunner
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.journal import journal_path, table_lock
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import read_table
from jmsnas.space import BlockOrPart
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

MANY = load_space("digits").blocks()


def profiled(
    folder: Path,
    subjects: tuple[BlockOrPart, ...] = BLOCKS,
    runner: JobRunner | None = None,
    budget_s: float | None = None,
    seed: int = 0,
) -> LatencyTable:
    runner = runner or SyntheticRunner()
    options = ProfileOptions(seed=seed, budget_s=budget_s, read_host=None, run_job=runner)
    return update_table("local", subjects, [EAGER], folder / "local.parquet", folder / "cache", options)


def samples(table: LatencyTable) -> dict[BlockOrPart, tuple[float, ...]]:
    return {row.block: row.samples for row in table.all_rows}


@pytest.mark.parametrize("key", [EAGER, RuntimeKey()], ids=lambda key: key.label)
def test_measured_in_worker_processes(tmp_path: Path, key: RuntimeKey) -> None:
    reported: list[tuple[float, float, str]] = []
    options = ProfileOptions(budget_s=0.2, progress=lambda *how_far: reported.append(how_far), read_host=None)
    path = tmp_path / "local.parquet"
    table = update_table("local", (*BLOCKS[:2], PART), [key], path, tmp_path / "cache", options)
    assert len(table.rows) == 2 and [row.block for row in table.parts] == [PART]
    assert read_table(tmp_path / "local.parquet") == table
    assert not journal_path(tmp_path / "local.parquet").exists()
    for row in table.all_rows:
        assert row.kind == "measured" and row.rounds == len(row.samples) == sum(row.process_rounds)
        # A second process replaces a row that the first found disturbed.
        assert len(row.process_rounds) in (1, 2) and min(row.process_rounds) >= 6
        assert row.converged == (row.half_width <= 0.01)
        assert row.min_s <= row.median_s <= row.p90_s
        assert row.environment in table.environments and row.source.startswith("jmsnas ")
        assert row.trust_reason != "not rated"
    assert reported[-1][:2] == (3, 3) and {of for _, of, _ in reported} == {3}
    assert [done for done, _, _ in reported] == sorted(done for done, _, _ in reported)
    assert reported[-1][2].startswith(f"{key.label}: ")


def test_real_blocks_in_this_process(tmp_path: Path) -> None:
    table = profiled(tmp_path, (*BLOCKS, PART), run_job_here, budget_s=0.1)
    assert {*samples(table)} == {*BLOCKS, PART}
    seconds = {row.block: row.median_s for row in table.all_rows}
    assert seconds[PART] > seconds[BLOCKS[0]] > seconds[BLOCKS[2]], "Identity is the least work"


def test_tenth_is_measured_in_a_second_job(tmp_path: Path) -> None:
    runner = SyntheticRunner()
    table = profiled(tmp_path, MANY, runner)
    assert [len(job.subjects) for job in runner.jobs] == [53, 8]
    repeated = {row.block for row in table.rows if len(row.process_rounds) == 2}
    assert repeated == {*runner.jobs[1].subjects}
    assert "median difference between processes" in table.rows[0].trust_reason
    # 53 blocks and 8 repeated at 0.6 s each.
    assert [job.config.budget_s for job in runner.jobs] == pytest.approx([53 * BUDGET_PER_BLOCK_S, 8 * 0.6])


def test_second_call_measures_only_what_is_missing(tmp_path: Path) -> None:
    runner = SyntheticRunner()
    first = profiled(tmp_path, BLOCKS[:2], runner)
    assert [job.subjects for job in runner.jobs] == [BLOCKS[:2], BLOCKS[:2]]
    runner.jobs.clear()
    second = profiled(tmp_path, (*BLOCKS, PART), runner)
    assert runner.jobs[0].subjects == (*BLOCKS[2:], PART)
    assert [{*job.subjects} for job in runner.jobs] == [{*BLOCKS[2:], PART}] * 2
    assert {block: samples(second)[block] for block in BLOCKS[:2]} == samples(first)
    when = (tmp_path / "local.parquet").stat().st_mtime_ns
    runner.jobs.clear()
    assert profiled(tmp_path, (*BLOCKS, PART), runner) == second and runner.jobs == []
    assert (tmp_path / "local.parquet").stat().st_mtime_ns == when, "written although nothing was new"


def test_budget_goes_to_the_wider_half_of_a_whole_table(tmp_path: Path) -> None:
    runner = SyntheticRunner()
    before = profiled(tmp_path, BLOCKS[:4], runner)
    runner.jobs.clear()
    after = profiled(tmp_path, BLOCKS[:4], runner, budget_s=10.0)
    (job,) = runner.jobs
    assert len(job.subjects) == 2 and job.config.budget_s == pytest.approx(8.5)
    assert job.config.finest < job.config.target
    counts = {row.block: len(row.process_rounds) for row in after.rows}
    assert counts == {block: 3 if block in job.subjects else 2 for block in BLOCKS[:4]}
    assert len(before.rows) == len(after.rows)


def test_part_of_a_budget_is_for_the_second_process(tmp_path: Path) -> None:
    runner = SyntheticRunner()
    profiled(tmp_path, BLOCKS, runner, budget_s=10.0)
    assert [job.config.budget_s for job in runner.jobs] == pytest.approx([8.5, 1.5])
    # No longer than a first measurement takes, however long the budget.
    runner = SyntheticRunner()
    profiled(tmp_path / "other", BLOCKS, runner, budget_s=1000.0)
    assert [job.config.budget_s for job in runner.jobs] == pytest.approx([850.0, 6 * 0.6])


def test_unconverged_rows_are_what_more_time_is_for(tmp_path: Path) -> None:
    profiled(tmp_path, BLOCKS[:2], SyntheticRunner(half_width=0.05))
    profiled(tmp_path, BLOCKS[:4], SyntheticRunner())
    runner = SyntheticRunner()
    profiled(tmp_path, BLOCKS[:4], runner, budget_s=1.0)
    assert runner.jobs[0].subjects == BLOCKS[:2]


def test_disturbed_rows_are_measured_again_without_being_asked_for(tmp_path: Path) -> None:
    table = profiled(tmp_path, BLOCKS[:2], SyntheticRunner(interrupted=0.5))
    assert {row.trust for row in table.rows} == {"red"}
    runner = SyntheticRunner()
    table = profiled(tmp_path, BLOCKS[:2], runner)
    assert runner.jobs[0].subjects == BLOCKS[:2]
    assert {row.interrupted for row in table.rows} == {0.0} and {row.rounds for row in table.rows} == {42}


def test_seed_chooses_the_order_and_what_is_repeated(tmp_path: Path) -> None:
    chosen = []
    for seed in (1, 1, 2):
        runner = SyntheticRunner()
        profiled(tmp_path / str(len(chosen)), MANY, runner, seed=seed)
        assert {job.seed for job in runner.jobs} == {seed}
        chosen.append(runner.jobs[1].subjects)
    assert chosen[0] == chosen[1] != chosen[2]


def test_second_profiler_is_refused(tmp_path: Path) -> None:
    with (
        table_lock(tmp_path / "local.parquet"),
        pytest.raises(JmsnasError, match=rf"another profiler \(process {os.getpid()}\)"),
    ):
        profiled(tmp_path)


def test_progress_over_keys_and_jobs_rises_to_the_end(tmp_path: Path) -> None:
    reported: list[tuple[float, float, str]] = []
    options = ProfileOptions(
        progress=lambda *how_far: reported.append(how_far), read_host=None, run_job=SyntheticRunner()
    )
    update_table("local", BLOCKS, [EAGER, RuntimeKey()], tmp_path / "local.parquet", tmp_path, options)
    done = [done for done, _, _ in reported]
    assert done == sorted(done) and done[-1] == pytest.approx(12) and {of for _, of, _ in reported} == {12}
    assert {what for _, _, what in reported} == {
        "torch-t1-b1-f32: measuring",
        "onnxruntime-t1-b1-f32: measuring",
    }


def test_device_that_is_not_this_host_is_simulated(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    found = profile_device("pi4", (*BLOCKS, PART), [EAGER], workspace)
    assert found.outcome == "simulated" and found.path == workspace.table("pi4")
    assert {row.kind for row in found.table.rows} == {"simulated"} and not found.table.parts
    assert read_table(found.path) == found.table
    more = profile_device("pi4", BLOCKS, [EAGER, RuntimeKey()], workspace)
    assert len(more.table.rows) == 2 * len(BLOCKS)


def test_measured_only_and_unknown_devices(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(DeviceError, match="this host is not pi4, and --measured-only refuses to simulate it"):
        profile_device("pi4", BLOCKS, [EAGER], workspace, measured_only=True)
    with pytest.raises(DeviceError, match="unknown device 'toaster': expected one of local, .*pi4"):
        profile_device("toaster", BLOCKS, [EAGER], workspace)
    assert not list(tmp_path.iterdir())


def as_pi4(workspace: Workspace) -> LatencyTable:
    options = ProfileOptions(read_host=None, run_job=SyntheticRunner())
    return update_table("pi4", BLOCKS[:1], [EAGER], workspace.table("pi4"), workspace.folder, options)


def test_name_of_one_processor_is_not_for_another(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(
        DeviceError,
        match=r"jetson is a name of one processor \(Jetson AGX Xavier: Volta GPU.*\), got torch-t1-b1-f32: "
        "expected --processor cuda, or --device jetson-cpu$",
    ):
        profile_device("jetson", BLOCKS, [EAGER], workspace)
    cuda = replace(EAGER, processor="cuda")
    with pytest.raises(DeviceError, match="expected --processor cpu, or --device jetson$"):
        profile_device("jetson-cpu", BLOCKS, [cuda], workspace)
    with pytest.raises(DeviceError, match="expected --processor cpu$"):
        profile_device("pi4", BLOCKS, [EAGER, cuda], workspace)
    assert profile_device("jetson", BLOCKS, [cuda], workspace).table.keys == (cuda,)


def test_measured_table_is_never_replaced_by_a_simulated_one(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    table = as_pi4(workspace)
    with pytest.warns(UserWarning, match="was measured and is kept"):
        found = profile_device("pi4", BLOCKS, [EAGER], workspace)
    assert found.outcome == "kept" and found.table == table == read_table(workspace.table("pi4"))


def test_measurement_takes_the_place_of_a_simulation(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    profile_device("pi4", BLOCKS, [EAGER, RuntimeKey()], workspace)
    table = as_pi4(workspace)
    assert [row.kind for row in table.rows] == ["measured"] and "simulated" not in table.environments
    assert simulated_table("pi4", BLOCKS, [EAGER]).simulated


def test_local_is_measured_and_host_warnings_are_given_once(tmp_path: Path) -> None:
    lines, workspace, readings = list[str](), Workspace(tmp_path), 0

    def heating(work: Callable[[], None]) -> HostState:
        nonlocal readings
        readings += 1
        return HostState(governor="ondemand", temperature_c=81.0 if readings == 12 else 60.0)

    def once() -> None:
        found = profile_device(
            "local",
            BLOCKS[:2],
            [EAGER, RuntimeKey()],
            workspace,
            ProfileOptions(warn=lines.append, read_host=heating, run_job=SyntheticRunner()),
        )
        assert found.outcome == "measured" and not found.table.simulated

    once()
    # Two keys, two jobs each: a reading before, one meanwhile, one after: hot at the very end.
    assert readings == 12 and [line.partition(":")[0] for line in lines] == [
        "the governor is ondemand, which moves the clock",
        "cannot determine whether the clock was steady",
        "the host is at 81 C",
    ]
    once()
    assert readings == 15 and len(lines) == 5, "what was measured up to the hot end is measured again"
    once()
    assert readings == 15 and len(lines) == 5, "there was nothing to measure, so nothing to warn of"
