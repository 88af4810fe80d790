"""Run a search in a folder of a workspace: load its inputs, resume from checkpoints, write its files."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jmsnas.datasets.catalog import check_dataset, load_dataset
from jmsnas.files import make_folder
from jmsnas.nas.derivation.target import LatencyTarget, resolve_target
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.latency.load_estimators import load_estimators
from jmsnas.nas.run_result import RunResult, read_result
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run_folder import (
    DatasetOptions,
    RunLog,
    SearchSetup,
    claim_folder,
    is_finished,
    run_configuration,
    run_lock,
    write_result,
)
from jmsnas.nas.search.search import search
from jmsnas.nas.search.session import Callbacks
from jmsnas.nas.search.split_options import SplitOptions
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.search.tensorboard import TensorBoardLog
from jmsnas.nas.supernet.checkpoint import StateDict, read_checkpoint, write_checkpoint
from jmsnas.nas.supernet.distributed import SINGLE_PROCESS, Ranks
from jmsnas.progress import Progress, no_progress
from jmsnas.space_file import load_space
from jmsnas.topology import load_topology
from jmsnas.workspace import Workspace

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options that do not change the result: progress, TensorBoard, processes that train together."""

    progress: Progress = no_progress
    tensorboard: bool = False
    ranks: Ranks = SINGLE_PROCESS


@dataclass(frozen=True, slots=True)
class SearchInputs:
    """Names of the topology, space and data set of a search, and options on the data and the split."""

    topology: str
    space: str
    dataset: str
    data: DatasetOptions = DatasetOptions()
    split: SplitOptions = SplitOptions()


def prepare_search(
    workspace: Workspace,
    inputs: SearchInputs,
    seed: int,
    progress: Progress = no_progress,
    warn: Callable[[str], None] = warnings.warn,
) -> SearchSetup:
    """Load space, topology and U(.) of its devices, and make the latency table.

    Raises InputError where one of them is missing or invalid.
    """
    check_dataset(inputs.dataset)
    topology = inputs.split.apply_to(load_topology(inputs.topology, workspace.topologies))
    space = load_space(inputs.space, workspace.spaces, len(topology.children))
    load_dataset(inputs.dataset, space, seed, inputs.data.folder, inputs.data.workers)
    estimators = load_estimators(topology, space, workspace, seed, progress, warn)
    lut = build_lut(space, topology, estimators, inputs.split.split)
    return SearchSetup(space, topology, estimators, lut, inputs.dataset, inputs.data)


def run_search(
    workspace: Workspace,
    name: str,
    setup: SearchSetup,
    config: SearchConfig,
    options: RunOptions | None = None,
    target: LatencyTarget | None = None,
) -> RunResult:
    """Search in `runs/<name>`: writes the config first, log and checkpoint on the way, the result last.

    An unfinished run of the same name and config is resumed, a finished one is read. `target`: the config's
    T_const where it was resolved before. Raises InfeasibleError before anything is trained or written,
    InputError where the name is another search's, TrainingError (also where another process searches in the
    folder) and StorageError.
    """
    options, target = options or RunOptions(), target or resolve_target(setup.lut, config.t_const_s)
    config = with_target(config, target)
    folder, content = workspace.run(name), run_configuration(config, setup, options.ranks)
    if is_finished(folder, content):
        return read_result(folder)
    with run_lock(folder, options.ranks) as check_folder:
        if not claim_folder(folder, content, options.ranks):
            callbacks = run_callbacks(folder, options, check_folder)
            splits = load_images(setup, config.seed)
            result = search(config, setup.space, setup.lut, splits, callbacks, target)
            if options.ranks.first:
                check_folder()
                write_result(folder, setup, result)
                (folder / CHECKPOINT).unlink(missing_ok=True)
            options.ranks.wait()
        return read_result(folder)


def with_target(config: SearchConfig, target: LatencyTarget) -> SearchConfig:
    """Set the latency target of a config."""
    own = target.t_const_s, target.percentile, target.margin_s
    return replace(config, t_const_s=own[0], percentile=own[1], margin_s=own[2])


def load_images(setup: SearchSetup, seed: int) -> Any:
    """Load the images of a search."""
    return load_dataset(setup.dataset, setup.space, seed, setup.data.folder, setup.data.workers)


def run_callbacks(folder: Path, options: RunOptions, check_folder: Callable[[], None]) -> Callbacks:
    """Make the callbacks that write log and checkpoint of a folder, resuming from its checkpoint.

    `check_folder` is called before each write; see `run_lock`.
    """
    path = make_folder(folder) / CHECKPOINT
    saved = read_checkpoint(path)
    if not options.ranks.first:
        return Callbacks(saved=saved, ranks=options.ranks)
    history: Sequence[dict[str, Any]] = saved["history"] if saved else ()
    log = RunLog(folder, history)
    tensorboard = TensorBoardLog(folder / "tensorboard", len(history)) if options.tensorboard else None

    def save(state: StateDict) -> None:
        check_folder()
        write_checkpoint(path, state)

    def report(epoch: EpochRecord) -> None:
        log(epoch)
        if tensorboard:
            tensorboard(epoch)

    return Callbacks(report, options.progress, save, saved, options.ranks)
