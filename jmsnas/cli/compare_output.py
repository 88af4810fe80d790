"""What `jmsnas compare` gathers and says."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jmsnas import mobilenets
from jmsnas.errors import InputError
from jmsnas.nas.comparison import (
    PAPER_SIZE,
    ComparisonEntry,
    SearchedRun,
    input_shape_and_classes,
    mobilenet_entries,
    read_run,
    refuse_incomparable,
    resized_entries,
    searched_entries,
    training_config,
)
from jmsnas.nas.run_result import finished_runs
from jmsnas.progress import Progress
from jmsnas.units import format_duration as ms
from jmsnas.workspace import Workspace


def select_runs(workspace: Workspace, names: Sequence[str]) -> list[SearchedRun]:
    """Read the runs named, or all that are like the newest. Raises InputError."""
    if names:
        found = [read_run(Path(name) if "/" in name else workspace.run(name)) for name in names]
    else:
        every = [read_run(folder) for folder in finished_runs(workspace)]
        found = [run for run in every if _alike(run, every[0])]
    refuse_incomparable(found)
    return sorted(found, key=lambda run: (run.topology, run.result.target.t_const_s))


def _alike(run: SearchedRun, other: SearchedRun) -> bool:
    asked = [(its.result.dataset, its.total_epochs, its.config.seed) for its in (run, other)]
    return asked[0] == asked[1]


def comparison_entries(
    workspace: Workspace,
    runs: Sequence[SearchedRun],
    train: bool,
    data_dir: Path,
    progress: Progress,
    warn: Callable[[str], None],
) -> list[ComparisonEntry]:
    """Gather the entries of the table. Raises InputError, DatasetError, TrainingError."""
    chain = next((run for run in runs if run.topology == "chain"), None)
    if chain is None:
        raise InputError("all runs are of a mesh: expected one of --topology chain beside them")
    shape, classes = input_shape_and_classes(chain)
    accuracies = _accuracies(workspace, chain, train, data_dir, progress, warn)
    entries = [entry for run in runs for entry in searched_entries(run)]
    entries += mobilenet_entries(workspace, chain, shape, classes, accuracies)
    if shape[1] == PAPER_SIZE:
        return entries
    entries += [entry for run in runs for entry in resized_entries(workspace, run)]
    return entries + mobilenet_entries(workspace, chain, (3, PAPER_SIZE, PAPER_SIZE), 1000, {})


def _accuracies(
    workspace: Workspace,
    chain: SearchedRun,
    train: bool,
    data_dir: Path,
    progress: Progress,
    warn: Callable[[str], None],
) -> dict[str, float]:
    from jmsnas.nas.train_mobilenet import known_accuracy, train_mobilenet

    config, dataset = training_config(chain), chain.result.dataset
    found = {name: known_accuracy(workspace, name, dataset, config) for name in mobilenets.NAMES}
    missing = [name for name, accuracy in found.items() if accuracy is None]
    if missing and train:
        from jmsnas.datasets.catalog import load_dataset
        from jmsnas.space_file import load_space

        warn(
            f"training {', '.join(missing)}: {config.final_epochs} epochs each, as the searched networks had"
        )
        space = load_space(chain.result.space.name, workspace.spaces)
        splits = load_dataset(dataset, space, config.seed, data_dir)
        for name in missing:
            found[name] = train_mobilenet(workspace, name, dataset, splits, config, progress)
    return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


def table_lines(entries: Sequence[ComparisonEntry]) -> Iterator[str]:
    """Print the table for people."""
    head = f"{'network':<20}{'method':<14}{'on':<7}{'input':<9}{'accuracy':>9}{'T':>12}"
    yield f"{head}{'bytes sent':>12}{'parameters':>12}"
    for its in entries:
        accuracy = "" if its.accuracy is None else f"{its.accuracy:.1%}"
        latency = "-" if its.latency_s is None else ms(its.latency_s)
        sent = "" if its.sent_bytes is None else f"{its.sent_bytes:.0f}"
        size = f"{its.size}x{its.size}"
        name = its.network if its.t_const_s is None else f"{its.network}, {ms(its.t_const_s)}"
        marks = f"  {its.missing if its.latency_s is None else its.marks}"
        yield (
            f"{name:<20}{its.method:<14}{its.topology:<7}{size:<9}{accuracy:>9}{latency:>12}{sent:>12}"
            f"{its.parameters:>12}{marks.rstrip()}"
        )
