"""A whole search as the command line runs it: estimators, the array, the search, the run folder."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jmsnas.datasets.catalog import check_dataset, load_dataset
from jmsnas.files import make_folder
from jmsnas.nas.derivation.target import resolve_target
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.latency.load_estimators import load_estimators
from jmsnas.nas.run_result import RunResult, read_result
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run_folder import (
    DatasetOptions,
    RunLog,
    SearchSetup,
    claim_folder,
    run_configuration,
    write_result,
)
from jmsnas.nas.search.search import search, train_shared_epochs
from jmsnas.nas.search.session import Callbacks
from jmsnas.nas.search.split_options import AS_IN_FILE, SplitOptions
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.search.tensorboard import TensorBoardLog
from jmsnas.nas.supernet.checkpoint import read_checkpoint, write_checkpoint
from jmsnas.nas.supernet.distributed import SINGLE_PROCESS, Ranks
from jmsnas.progress import Progress, no_progress
from jmsnas.space_file import load_space
from jmsnas.topology import load_topology
from jmsnas.workspace import Workspace

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is carried out, whatever it finds: who hears of it, and the processes that train together."""

    progress: Progress = no_progress
    tensorboard: bool = False
    ranks: Ranks = SINGLE_PROCESS


def prepare_search(
    workspace: Workspace,
    topology_name: str,
    space_name: str,
    dataset: str,
    seed: int,
    progress: Progress = no_progress,
    warn: Callable[[str], None] = warnings.warn,
    data: DatasetOptions | None = None,
    splitting: SplitOptions = AS_IN_FILE,
) -> SearchSetup:
    """Load the space, the network and U(.) of its devices. Raises what is wrong with any of them."""
    check_dataset(dataset)
    topology = splitting.of(load_topology(topology_name, workspace.topologies))
    space = load_space(space_name, workspace.spaces, len(topology.children))
    data = data or DatasetOptions()
    load_dataset(dataset, space, seed, data.folder, data.workers)
    estimators = load_estimators(topology, space, workspace, seed, progress, warn)
    lut = build_lut(space, topology, estimators, splitting.split)
    return SearchSetup(space, topology, estimators, lut, dataset, data)


def run_search(
    workspace: Workspace, name: str, setting: SearchSetup, config: SearchConfig, how: RunOptions | None = None
) -> RunResult:
    """Search and write `runs/<name>`: configuration first, log and checkpoint as it goes, the result last.

    A run of the same name and settings goes on where it was, or is read where it was finished. Raises
    TargetError before any training and before anything is written; InputError where the name is another
    search's; TrainingError; StorageError.
    """
    how = how or RunOptions()
    config = replace(config, t_const_s=resolve_target(setting.lut, config.t_const_s).t_const_s)
    folder = workspace.run(name)
    finished = claim_folder(folder, run_configuration(config, setting, how.ranks), how.ranks)
    if not finished:
        hooks, splits = _hooks(folder, how), load_images(setting, config.seed)
        result = search(config, setting.space, setting.lut, splits, hooks)
        if how.ranks.first:
            write_result(folder, setting, result)
            (folder / CHECKPOINT).unlink(missing_ok=True)
        how.ranks.wait()
    return read_result(folder)


def run_shared_epochs(
    workspace: Workspace,
    name: str,
    setting: SearchSetup,
    config: SearchConfig,
    epochs: int,
    said: Mapping[str, Any],
    how: RunOptions,
) -> None:
    """Run the first `epochs` of stage one, which several searches share, in `runs/<name>`; see `run_search`.

    `said`: what `config.json` holds beside that of a single search.
    """
    config = replace(config, t_const_s=resolve_target(setting.lut, config.t_const_s).t_const_s)
    folder = workspace.run(name)
    claim_folder(folder, {**run_configuration(config, setting, how.ranks), **said}, how.ranks)
    hooks, splits = _hooks(folder, how), load_images(setting, config.seed)
    train_shared_epochs(config, setting.space, setting.lut, splits, epochs, hooks)
    how.ranks.wait()


def load_images(setting: SearchSetup, seed: int) -> Any:
    """Load the images of a setting."""
    return load_dataset(setting.dataset, setting.space, seed, setting.data.folder, setting.data.workers)


def _hooks(folder: Path, how: RunOptions) -> Callbacks:
    """Read the checkpoint, bring the log to where it is, and write both on from there."""
    path = make_folder(folder) / CHECKPOINT
    saved = read_checkpoint(path)
    if not how.ranks.first:
        return Callbacks(saved=saved, ranks=how.ranks)
    history: Sequence[dict[str, Any]] = saved["history"] if saved else ()
    log = RunLog(folder, history)
    board = TensorBoardLog(folder / "tensorboard", len(history)) if how.tensorboard else None

    def report(epoch: EpochRecord) -> None:
        log(epoch)
        if board:
            board(epoch)

    return Callbacks(report, how.progress, lambda state: write_checkpoint(path, state), saved, how.ranks)
