"""Several networks from what one training has in common: shared warm-ups, a front, sweeps in parallel.

A group `NAME` trains once what its points share, in `runs/NAME`; each point then is a run of its own,
`runs/NAME-1`, `runs/NAME-2` ..., which begins with a copy of that state, and goes on by itself when stopped.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from jmsnas.errors import InputError
from jmsnas.files import make_folder, write_json
from jmsnas.nas.derivation.target import check_resource_limits, resolve_target, targets_in_range
from jmsnas.nas.run_result import RunResult
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run import CHECKPOINT, RunOptions, run_search, run_shared_epochs
from jmsnas.nas.search.run_folder import SearchSetup
from jmsnas.nas.supernet.checkpoint import read_checkpoint, write_checkpoint
from jmsnas.progress import no_progress
from jmsnas.workspace import Workspace

T = TypeVar("T")
_SECONDS_TO_ANSWER = 5


@dataclass(frozen=True, slots=True)
class SearchGroup:
    """Searches on one setting that differ in T_const alone.

    `shared`: how many epochs of stage one they have in common; all of them where one search is derived for
    every target (a front), the warm-up where each target is searched for.
    """

    name: str
    setting: SearchSetup
    config: SearchConfig
    t_consts_s: tuple[float, ...]
    shared: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the runs of its points."""
        return tuple(f"{self.name}-{k}" for k in range(1, len(self.t_consts_s) + 1))

    @property
    def said(self) -> dict[str, Any]:
        """What its `config.json` holds beside that of a single search."""
        return {"targets_s": list(self.t_consts_s), "shared_epochs": self.shared}


@dataclass(frozen=True, slots=True)
class ParallelOptions:
    """Where points run: `jobs` processes of this machine, or a Dask cluster's workers (its address)."""

    jobs: int = 1
    dask: str | None = None


def targets_group(
    name: str, setting: SearchSetup, config: SearchConfig, t_consts_s: Sequence[float]
) -> SearchGroup:
    """Search for each T_const after one warm-up. Raises TargetError where one cannot be met."""
    for t_const_s in t_consts_s:
        check_resource_limits(setting.lut, resolve_target(setting.lut, t_const_s), config.band)
    return SearchGroup(name, setting, config, tuple(t_consts_s), config.warmup_epochs)


def front_group(name: str, setting: SearchSetup, config: SearchConfig, count: int) -> SearchGroup:
    """Search once, at the config's T_const, and derive and train `count` networks over the feasible range."""
    targets = tuple(targets_in_range(setting.lut, count))
    return SearchGroup(name, setting, config, targets, config.warmup_epochs + config.search_epochs)


def run_groups(
    workspace: Workspace,
    groups: Sequence[SearchGroup],
    how: RunOptions | None = None,
    workers: ParallelOptions = ParallelOptions(),
) -> list[list[RunResult]]:
    """Run what each group shares, then all points; either in parallel. Gives the runs, group by group.

    Anything that was finished before is read, what was begun goes on. Raises as `run_search` does.
    """
    how = how or RunOptions()
    apart = workers.jobs > 1 or workers.dask is not None
    heard = replace(how, progress=no_progress) if apart else how
    shared = [(workspace, group, heard) for group in groups if group.shared]
    _map(_run_shared, shared, workers, how, "shared epochs")
    points = [(workspace, group, k, heard) for group in groups for k in range(len(group.t_consts_s))]
    runs = iter(_map(_run_point, points, workers, how, "points"))
    found = [[next(runs) for _ in group.t_consts_s] for group in groups]
    for group, of_group in zip(groups, found, strict=True):
        if how.ranks.first:
            write_json(make_folder(workspace.run(group.name)) / "front.json", front_document(group, of_group))
    return found


def front_document(group: SearchGroup, runs: Sequence[RunResult]) -> dict[str, Any]:
    """Put a group's points side by side: T_const, T, accuracy, and the run that holds the rest."""
    return {
        "schema_version": 1,
        "name": group.name,
        "points": [
            {
                "run": run.folder.name,
                "t_const_s": run.target.t_const_s,
                "latency_s": run.derived.latency_s,
                "in_band": run.derived.in_band,
                "test_accuracy": run.accuracy.test,
            }
            for run in runs
        ],
    }


def _run_shared(workspace: Workspace, group: SearchGroup, how: RunOptions) -> None:
    run_shared_epochs(workspace, group.name, group.setting, group.config, group.shared, group.said, how)


def _run_point(workspace: Workspace, group: SearchGroup, k: int, how: RunOptions) -> RunResult:
    name = group.names[k]
    path = workspace.run(name) / CHECKPOINT
    begun = path.exists() or (path.parent / "config.json").exists()
    if how.ranks.first and group.shared and not begun:
        state = read_checkpoint(workspace.run(group.name) / CHECKPOINT)
        assert state is not None, "the shared epochs were run before"
        write_checkpoint(path, state)
    how.ranks.wait()
    config = replace(group.config, t_const_s=group.t_consts_s[k])
    return run_search(workspace, name, group.setting, config, how)


def _map(
    function: Callable[..., T],
    tasks: Sequence[tuple[Any, ...]],
    workers: ParallelOptions,
    how: RunOptions,
    what: str,
) -> list[T]:
    """Call the function with each task, in parallel where that is asked for; results in order."""
    if workers.jobs == 1 and workers.dask is None:
        return [function(*task) for task in tasks]
    import joblib

    found: list[T] = []
    with _cluster(workers.dask), joblib.parallel_config("dask" if workers.dask else "loky"):
        run = joblib.Parallel(n_jobs=-1 if workers.dask else workers.jobs, return_as="generator")
        for result in run(joblib.delayed(function)(*task) for task in tasks):
            found.append(result)
            how.progress(len(found), len(tasks), f"{len(found)} of {len(tasks)} {what}")
    return found


def _cluster(address: str | None) -> Any:
    """Connect to a Dask scheduler, as joblib's own backend wants it."""
    if address is None:
        return nullcontext()
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise InputError("--dask needs the package distributed: pip install 'jmsnas[dask]'") from error
    try:
        return Client(address, timeout=_SECONDS_TO_ANSWER)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address}: start one, or leave --dask out") from error
