"""Select the runs of `jmsnas compare`, compute its table, and print it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jmsnas import mobilenets
from jmsnas.cli.terminal import table_lines
from jmsnas.errors import InputError, TopologyError
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
    searched_over,
    training_config,
)
from jmsnas.nas.run_result import finished_runs
from jmsnas.progress import Progress
from jmsnas.topology import load_topology
from jmsnas.units import format_duration as ms
from jmsnas.workspace import Workspace


def select_runs(
    workspace: Workspace, names: Sequence[str], topology_name: str | None = None
) -> list[SearchedRun]:
    """Read the named runs, or all with the data set, epochs and seed of the newest; of one topology if named.

    Raises InputError, and for a named run of another topology TopologyError.
    """
    topology = load_topology(topology_name, workspace.topologies) if topology_name is not None else None
    if names:
        found = [read_run(Path(name) if "/" in name else workspace.run(name)) for name in names]
        other = [run for run in found if topology and not searched_over(run, topology)]
        if other:
            raise TopologyError(
                f"run {other[0].name} was searched for other devices and links (topology "
                f"{other[0].result.topology.name}) than --topology {topology_name}: expected runs of jmsnas "
                f"search --topology {topology_name}"
            )
    else:
        every = [read_run(folder) for folder in finished_runs(workspace)]
        every = [run for run in every if not topology or searched_over(run, topology)]
        if topology and not every:
            raise TopologyError(
                f"no finished run in {workspace.folder / 'runs'} was searched for --topology "
                f"{topology_name}. Run: jmsnas search --topology {topology_name}"
            )
        found = [run for run in every if _settings(run) == _settings(every[0])]
    refuse_incomparable(found)
    if topology is None and all(run.topology == "mesh" for run in found):
        raise InputError(
            "all runs are on a mesh: expected at least one run of --topology chain, or --topology mesh"
        )
    return sorted(found, key=lambda run: (run.topology, run.result.target.t_const_s))


def _settings(run: SearchedRun) -> tuple[str, int, int]:
    return run.result.dataset, run.total_epochs, run.config.seed


def comparison_entries(
    workspace: Workspace,
    runs: Sequence[SearchedRun],
    train: bool,
    data_dir: Path,
    progress: Progress,
    log: Callable[[str], None],
) -> list[ComparisonEntry]:
    """Compute the entries of the table, MobileNets over the topology of the first run, if any, on a chain.

    Raises InputError, DatasetError, TrainingError.
    """
    base = next((run for run in runs if run.topology == "chain"), runs[0])
    shape, classes = input_shape_and_classes(base)
    accuracies = _accuracies(workspace, base, train, data_dir, progress, log)
    entries = [entry for run in runs for entry in searched_entries(run)]
    entries += mobilenet_entries(workspace, base, shape, classes, accuracies)
    if shape[1] == PAPER_SIZE:
        return entries
    entries += [entry for run in runs for entry in resized_entries(workspace, run)]
    return entries + mobilenet_entries(workspace, base, (3, PAPER_SIZE, PAPER_SIZE), 1000, {})


def _accuracies(
    workspace: Workspace,
    base: SearchedRun,
    train: bool,
    data_dir: Path,
    progress: Progress,
    log: Callable[[str], None],
) -> dict[str, float]:
    from jmsnas.nas.train_mobilenet import known_accuracy, train_mobilenet

    config, dataset = training_config(base), base.result.dataset
    found = {name: known_accuracy(workspace, name, dataset, config) for name in mobilenets.NAMES}
    missing = [name for name, accuracy in found.items() if accuracy is None]
    if missing and train:
        from jmsnas.datasets.catalog import load_dataset
        from jmsnas.space_file import load_space

        log(f"training {', '.join(missing)}: {config.final_epochs} epochs each, as for the searched models")
        space = load_space(base.result.space.name, workspace.spaces)
        splits = load_dataset(dataset, space, config.seed, data_dir)
        for name in missing:
            found[name] = train_mobilenet(workspace, name, dataset, splits, config, progress)
    return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


def comparison_lines(entries: Sequence[ComparisonEntry]) -> Iterator[str]:
    """Format the table, one row per entry."""
    rows = []
    for entry in entries:
        accuracy = "" if entry.accuracy is None else f"{entry.accuracy:.1%}"
        latency = "-" if entry.latency_s is None else ms(entry.latency_s)
        sent = "" if entry.sent_bytes is None else f"{entry.sent_bytes:.0f}"
        size = f"{entry.size}x{entry.size}"
        name = entry.network if entry.t_const_s is None else f"{entry.network}, {ms(entry.t_const_s)}"
        marks = f"  {entry.missing if entry.latency_s is None else entry.marks}"
        where = (name, entry.method, entry.topology, size)
        rows.append((*where, accuracy, latency, sent, str(entry.parameters), marks.rstrip()))
    names = ("model", "method", "on", "input", "accuracy", "T", "bytes sent", "parameters", "")
    specs = ("<20", "<14", "<7", "<9", ">9", ">12", ">12", ">12", "")
    yield from table_lines([*zip(names, specs, strict=True)], rows)
