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
from jmsnas.nas.derivation.target import check_limits, choose_target, targets_between
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run import CHECKPOINT, How, Run, run_beginning, run_search
from jmsnas.nas.search.run_folder import Setting
from jmsnas.nas.supernet.checkpoint import read_checkpoint, write_checkpoint
from jmsnas.progress import silent
from jmsnas.workspace import Workspace

T = TypeVar("T")
_SECONDS_TO_ANSWER = 5


@dataclass(frozen=True, slots=True)
class Group:
    """Searches on one setting that differ in T_const alone.

    `shared`: how many epochs of stage one they have in common; all of them where one search is derived for
    every target (a front), the warm-up where each target is searched for.
    """

    name: str
    setting: Setting
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
class Workers:
    """Where points run: `jobs` processes of this machine, or a Dask cluster's workers (its address)."""

    jobs: int = 1
    dask: str | None = None


def targets_group(name: str, setting: Setting, config: SearchConfig, t_consts_s: Sequence[float]) -> Group:
    """Search for each T_const after one warm-up. Raises TargetError where one cannot be met."""
    for t_const_s in t_consts_s:
        check_limits(setting.lut, choose_target(setting.lut, t_const_s), config.band)
    return Group(name, setting, config, tuple(t_consts_s), config.warmup_epochs)


def front_group(name: str, setting: Setting, config: SearchConfig, count: int) -> Group:
    """Search once, at the config's T_const, and derive and train `count` networks over the feasible range."""
    targets = tuple(targets_between(setting.lut, count))
    return Group(name, setting, config, targets, config.warmup_epochs + config.search_epochs)


def run_groups(
    place: Workspace, groups: Sequence[Group], how: How | None = None, workers: Workers = Workers()
) -> list[list[Run]]:
    """Run what each group shares, then all points; either in parallel. Gives the runs, group by group.

    Anything that was finished before is read, what was begun goes on. Raises as `run_search` does.
    """
    how = how or How()
    apart = workers.jobs > 1 or workers.dask is not None
    heard = replace(how, progress=silent) if apart else how
    shared = [(place, group, heard) for group in groups if group.shared]
    _map(_run_shared, shared, workers, how, "shared epochs")
    points = [(place, group, k, heard) for group in groups for k in range(len(group.t_consts_s))]
    runs = iter(_map(_run_point, points, workers, how, "points"))
    found = [[next(runs) for _ in group.t_consts_s] for group in groups]
    for group, of_group in zip(groups, found, strict=True):
        if how.ranks.first:
            write_json(make_folder(place.run(group.name)) / "front.json", front_document(group, of_group))
    return found


def front_document(group: Group, runs: Sequence[Run]) -> dict[str, Any]:
    """Put a group's points side by side: T_const, T, accuracy, and the run that holds the rest."""
    return {
        "schema_version": 1,
        "name": group.name,
        "points": [
            {
                "run": run.folder.name,
                "t_const_s": run.document["target"]["t_const_s"],
                "latency_s": run.document["derived"]["latency_s"],
                "in_band": run.document["derived"]["in_band"],
                "test_accuracy": run.document["accuracy"]["test"],
            }
            for run in runs
        ],
    }


def _run_shared(place: Workspace, group: Group, how: How) -> None:
    run_beginning(place, group.name, group.setting, group.config, group.shared, group.said, how)


def _run_point(place: Workspace, group: Group, k: int, how: How) -> Run:
    name = group.names[k]
    path = place.run(name) / CHECKPOINT
    begun = path.exists() or (path.parent / "config.json").exists()
    if how.ranks.first and group.shared and not begun:
        state = read_checkpoint(place.run(group.name) / CHECKPOINT)
        assert state is not None, "the shared epochs were run before"
        write_checkpoint(path, state)
    how.ranks.wait()
    config = replace(group.config, t_const_s=group.t_consts_s[k])
    return run_search(place, name, group.setting, config, how)


def _map(
    function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], workers: Workers, how: How, what: str
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
