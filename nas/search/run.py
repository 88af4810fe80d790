"""A whole search as the command line runs it: estimators, the array, the search, the run folder."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jmsnas.datasets.catalog import check_dataset, load_dataset
from jmsnas.files import make_folder
from jmsnas.nas.derivation.target import choose_target
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.latency.load_estimators import estimators_for
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run_folder import (
    Data,
    RunLog,
    Setting,
    claim_folder,
    configuration,
    read_result,
    write_result,
)
from jmsnas.nas.search.search import begin_search, search
from jmsnas.nas.search.session import Hooks
from jmsnas.nas.search.split_options import AS_THE_FILE_SAYS, Splitting
from jmsnas.nas.search.stages import Epoch
from jmsnas.nas.search.tensorboard import Board
from jmsnas.nas.supernet.checkpoint import read_checkpoint, write_checkpoint
from jmsnas.nas.supernet.distributed import ALONE, Ranks
from jmsnas.progress import Progress, silent
from jmsnas.space_file import load_space
from jmsnas.topology import load_network
from jmsnas.workspace import Workspace

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: where it lies, its `result.json` as a document, and what it ran on."""

    folder: Path
    document: dict[str, Any]
    setting: Setting


@dataclass(frozen=True, slots=True)
class How:
    """How a run is carried out, whatever it finds: who hears of it, and the processes that train together."""

    progress: Progress = silent
    tensorboard: bool = False
    ranks: Ranks = ALONE


def prepare(
    place: Workspace,
    network_name: str,
    space_name: str,
    dataset: str,
    seed: int,
    progress: Progress = silent,
    tell: Callable[[str], None] = warnings.warn,
    data: Data | None = None,
    splitting: Splitting = AS_THE_FILE_SAYS,
) -> Setting:
    """Load the space, the network and U(.) of its devices. Raises what is wrong with any of them."""
    check_dataset(dataset)
    network = splitting.of(load_network(network_name, place.networks))
    space = load_space(space_name, place.spaces, len(network.children))
    data = data or Data()
    load_dataset(dataset, space, seed, data.folder, data.workers)
    estimators = estimators_for(network, space, place, seed, progress, tell)
    lut = build_lut(space, network, estimators, splitting.split)
    return Setting(space, network, estimators, lut, dataset, data)


def run_search(
    place: Workspace, name: str, setting: Setting, config: SearchConfig, how: How | None = None
) -> Run:
    """Search and write `runs/<name>`: configuration first, log and checkpoint as it goes, the result last.

    A run of the same name and settings goes on where it was, or is read where it was finished. Raises
    TargetError before any training and before anything is written; InputError where the name is another
    search's; TrainingError; StorageError.
    """
    how = how or How()
    config = replace(config, t_const_s=choose_target(setting.lut, config.t_const_s).t_const_s)
    folder = place.run(name)
    finished = claim_folder(folder, configuration(config, setting, how.ranks), how.ranks)
    if not finished:
        hooks, splits = _hooks(folder, how), load_dataset_of(setting, config.seed)
        result = search(config, setting.space, setting.lut, splits, hooks)
        if how.ranks.first:
            write_result(folder, setting, result)
            (folder / CHECKPOINT).unlink(missing_ok=True)
        how.ranks.wait()
    return Run(folder, read_result(folder), setting)


def run_beginning(
    place: Workspace,
    name: str,
    setting: Setting,
    config: SearchConfig,
    epochs: int,
    said: Mapping[str, Any],
    how: How,
) -> None:
    """Run the first `epochs` of stage one, which several searches share, in `runs/<name>`; see `run_search`.

    `said`: what `config.json` holds beside that of a single search.
    """
    config = replace(config, t_const_s=choose_target(setting.lut, config.t_const_s).t_const_s)
    folder = place.run(name)
    claim_folder(folder, {**configuration(config, setting, how.ranks), **said}, how.ranks)
    hooks, splits = _hooks(folder, how), load_dataset_of(setting, config.seed)
    begin_search(config, setting.space, setting.lut, splits, epochs, hooks)
    how.ranks.wait()


def load_dataset_of(setting: Setting, seed: int) -> Any:
    """Load the images of a setting."""
    return load_dataset(setting.dataset, setting.space, seed, setting.data.folder, setting.data.workers)


def _hooks(folder: Path, how: How) -> Hooks:
    """Read the checkpoint, bring the log to where it is, and write both on from there."""
    path = make_folder(folder) / CHECKPOINT
    saved = read_checkpoint(path)
    if not how.ranks.first:
        return Hooks(saved=saved, ranks=how.ranks)
    history: Sequence[dict[str, Any]] = saved["history"] if saved else ()
    log = RunLog(folder, history)
    board = Board(folder / "tensorboard", len(history)) if how.tensorboard else None

    def report(epoch: Epoch) -> None:
        log(epoch)
        if board:
            board(epoch)

    return Hooks(report, how.progress, lambda state: write_checkpoint(path, state), saved, how.ranks)
