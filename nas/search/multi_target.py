"""Searches for several latency targets that share training: a common warm-up, a front, parallel sweeps.

A group `NAME` trains its shared epochs once, in `runs/NAME`; each target is then a run of its own,
`runs/NAME-1`, `runs/NAME-2` ..., which starts from a copy of that state and can be resumed by itself.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from jmsnas.errors import InputError, StorageError
from jmsnas.files import write_json
from jmsnas.nas.derivation.target import (
    LatencyTarget,
    check_resource_limits,
    resolve_target,
    targets_in_range,
)
from jmsnas.nas.run_result import RunResult
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.percentile_target import percentile_target
from jmsnas.nas.search.run import (
    CHECKPOINT,
    RunOptions,
    load_images,
    run_callbacks,
    run_search,
    with_target,
)
from jmsnas.nas.search.run_folder import (
    SearchSetup,
    claim_folder,
    find_unfinished_run,
    run_configuration,
    run_lock,
)
from jmsnas.nas.search.search import train_shared_epochs
from jmsnas.nas.supernet.checkpoint import StateDict, read_checkpoint, write_checkpoint
from jmsnas.progress import no_progress
from jmsnas.workspace import Workspace

T = TypeVar("T")
_SECONDS_TO_ANSWER = 5


@dataclass(frozen=True, slots=True)
class SearchGroup:
    """Searches with the same inputs that differ in T_const only.

    `shared`: number of epochs of stage one in common: all of them for a front, where each target derives from
    one search; those of the warm-up where each target is searched for.
    """

    name: str
    setup: SearchSetup
    config: SearchConfig
    targets: tuple[LatencyTarget, ...]
    shared: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its runs."""
        return tuple(f"{self.name}-{k}" for k in range(1, len(self.targets) + 1))

    @property
    def config_entries(self) -> dict[str, Any]:
        """Entries of its `config.json` in addition to those of a single search."""
        targets_s = [target.t_const_s for target in self.targets]
        return {"targets_s": targets_s, "shared_epochs": self.shared}


@dataclass(frozen=True, slots=True)
class ParallelOptions:
    """Parallel execution: `jobs` processes of this machine, or the workers of a Dask scheduler."""

    jobs: int = 1
    dask: str | None = None


def targets_group(
    name: str, setup: SearchSetup, config: SearchConfig, targets: Sequence[LatencyTarget]
) -> SearchGroup:
    """Make a search for each target after one warm-up. Raises InfeasibleError where one cannot be met."""
    for target in targets:
        check_resource_limits(setup.lut, target, config.band)
    return SearchGroup(name, setup, config, tuple(targets), config.warmup_epochs)


def front_group(
    name: str, setup: SearchSetup, config: SearchConfig, targets: Sequence[LatencyTarget]
) -> SearchGroup:
    """Make one search at the config's T_const, from which a model is derived and trained for each target."""
    return SearchGroup(name, setup, config, tuple(targets), config.warmup_epochs + config.search_epochs)


def run_groups(
    workspace: Workspace,
    groups: Sequence[SearchGroup],
    options: RunOptions | None = None,
    parallel: ParallelOptions = ParallelOptions(),
) -> list[list[RunResult]]:
    """Run the shared epochs of each group, then all searches, both in parallel; returns results by group.

    Finished runs are read, unfinished ones resumed. Raises as `run_search` does.
    """
    options = options or RunOptions()
    in_workers = parallel.jobs > 1 or parallel.dask is not None
    quiet = replace(options, progress=no_progress) if in_workers else options
    shared = [(workspace, group, quiet) for group in groups if group.shared]
    _map(run_shared_epochs, shared, parallel, options, "shared epochs")
    tasks = [(workspace, group, k, quiet) for group in groups for k in range(len(group.targets))]
    runs = iter(_map(_run_target, tasks, parallel, options, "targets"))
    results = [[next(runs) for _ in group.targets] for group in groups]
    for group, of_group in zip(groups, results, strict=True):
        if options.ranks.first:
            folder = workspace.run(group.name)
            if group.shared:
                _shared_state(folder)
            write_json(folder / "front.json", front_document(group, of_group))
    return results


def front_document(group: SearchGroup, runs: Sequence[RunResult]) -> dict[str, Any]:
    """Make `front.json` of a group: T_const, T, accuracy and name of each run."""
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


def run_shared_epochs(workspace: Workspace, group: SearchGroup, options: RunOptions) -> None:
    """Train the epochs that the searches of a group share, in `runs/<name>`; see `run_search`."""
    setup, known = group.setup, group.targets[0] if group.targets else None
    target = resolve_target(setup.lut, group.config.t_const_s, known)
    config, folder = replace(group.config, t_const_s=target.t_const_s), workspace.run(group.name)
    content = run_configuration(config, setup, options.ranks) | group.config_entries
    with run_lock(folder, options.ranks) as check_folder:
        claim_folder(folder, content, options.ranks)
        callbacks, splits = run_callbacks(folder, options, check_folder), load_images(setup, config.seed)
        train_shared_epochs(config, setup.space, setup.lut, splits, group.shared, callbacks, target)
        options.ranks.wait()


def _run_target(workspace: Workspace, group: SearchGroup, k: int, options: RunOptions) -> RunResult:
    name, target = group.names[k], group.targets[k]
    path = workspace.run(name) / CHECKPOINT
    if options.ranks.first and group.shared and not (path.parent / "config.json").exists():
        with run_lock(path.parent):
            if not path.exists():
                write_checkpoint(path, _shared_state(workspace.run(group.name)))
    options.ranks.wait()
    config = replace(group.config, t_const_s=target.t_const_s)
    return run_search(workspace, name, group.setup, config, options, target)


def _shared_state(folder: Path) -> StateDict:
    """Read the state after the shared epochs of a group. Raises StorageError where the folder has gone."""
    state = read_checkpoint(folder / CHECKPOINT)
    if state is None:
        raise StorageError(
            f"{folder} was moved or removed: move it back, then run the same command to resume"
        )
    return state


def _map(
    function: Callable[..., T],
    tasks: Sequence[tuple[Any, ...]],
    parallel: ParallelOptions,
    options: RunOptions,
    what: str,
) -> list[T]:
    """Call a function with each task, in parallel where requested; results in the order of the tasks."""
    if parallel.jobs == 1 and parallel.dask is None:
        return [function(*task) for task in tasks]
    import joblib

    results: list[T] = []
    with _cluster(parallel.dask), joblib.parallel_config("dask" if parallel.dask else "loky"):
        run = joblib.Parallel(n_jobs=-1 if parallel.dask else parallel.jobs, return_as="generator")
        for result in run(joblib.delayed(function)(*task) for task in tasks):
            results.append(result)
            options.progress(len(results), len(tasks), f"{len(results)} of {len(tasks)} {what}")
    return results


def _cluster(address: str | None) -> Any:
    """Connect to a Dask scheduler for joblib's dask backend."""
    if address is None:
        return nullcontext()
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise InputError("--dask needs the package distributed: pip install 'jmsnas[dask]'") from error
    try:
        return Client(address, timeout=_SECONDS_TO_ANSWER)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address}: start one, or omit --dask") from error


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What to search for: targets in seconds (none: the middle of the feasible range), levels, or a front.

    `levels`: number of targets inside the feasible range where none is given. `front`: number of models
    derived from one search; 0: one search per target. `percentiles`: of the measured T that is to meet each
    target; empty: the median of all. `ratios`: see percentile_target.py.
    """

    targets_s: tuple[float, ...] = ()
    levels: int = 1
    front: int = 0
    percentiles: tuple[int, ...] = ()
    ratios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a front with several targets."""
        if self.front and len(self.targets_s) > 1:
            raise InputError(
                f"--front derives from one search, got {len(self.targets_s)} targets: "
                "expected at most one --t-const, or no --front"
            )
        if self.front and any(percentile > 50 for percentile in self.percentiles):
            raise InputError("--front derives models over the feasible range: expected --t-const without @p")


def run_request(
    workspace: Workspace,
    setup: SearchSetup,
    config: SearchConfig,
    request: SearchRequest,
    name: str | None,
    new_name: str,
    options: RunOptions | None = None,
) -> tuple[str, list[RunResult]]:
    """Run a request under `name`, else under that of an unfinished run of the same config, else `new_name`.

    Returns the name and the results. Raises as `run_search` does.
    """
    options, lut = options or RunOptions(), setup.lut
    if any(percentile > 50 for percentile in request.percentiles):
        known = resolve_target(lut)
        targets = [
            percentile_target(lut, t_const_s, percentile, request.ratios, known)
            for t_const_s, percentile in zip(request.targets_s, request.percentiles, strict=True)
        ]
        first = targets[0]
    else:
        first = resolve_target(lut, request.targets_s[0] if request.targets_s else None)
        targets = [first, *(resolve_target(lut, t_const_s, first) for t_const_s in request.targets_s[1:])]
    if not request.targets_s and request.levels > 1 and not request.front:
        targets = targets_in_range(lut, request.levels, first)
    config = with_target(config, targets[0])
    group: SearchGroup | None = None
    if request.front:
        group = front_group("", setup, config, targets_in_range(lut, request.front, first))
    elif len(targets) > 1:
        group = targets_group("", setup, config, targets)
    content = run_configuration(config, setup, options.ranks)
    if group:
        content |= group.config_entries
    name = name or find_unfinished_run(workspace.folder / "runs", content) or new_name
    if group is None:
        return name, [run_search(workspace, name, setup, config, options, targets[0])]
    return name, run_groups(workspace, [replace(group, name=name)], options)[0]
