"""From a workspace to what a search rests on: U(.) of every device of a network, and the filled array."""

import warnings
from collections.abc import Callable

from jmsnas.device import Device
from jmsnas.errors import EstimatorError
from jmsnas.estimators.store import Estimator, estimator_is_current, fit_estimator, load_estimator
from jmsnas.network import Network
from jmsnas.profiler.parquet import read_table
from jmsnas.profiler.simulated import processor_of, serving_key, simulated_names
from jmsnas.profiler.sweep import profile_device
from jmsnas.profiler.table import Key, LatencyTable
from jmsnas.progress import Progress, silent
from jmsnas.space import SearchSpace
from jmsnas.workspace import Workspace


def estimators_for(
    network: Network,
    space: SearchSpace,
    place: Workspace,
    seed: int = 0,
    progress: Progress = silent,
    tell: Callable[[str], None] = warnings.warn,
) -> dict[str, Estimator]:
    """Load U(.) of every device of a network, fitted anew where its table has moved on.

    A built-in device that nobody has profiled is simulated (its table is written, and says so).

    Returns
    -------
    Estimators by the devices' names in the network. Raises EstimatorError naming the command to run.
    """
    estimators: dict[str, Estimator] = {}
    for m, device in enumerate(network.devices):
        progress(m, network.M, f"U(.) of {device.name}")
        key = Key(device.runtime, processor=processor_of(device.table))
        table = _table(device, key, space, place, tell)
        key = serving_key(device.table, device.runtime, table.keys)
        folder = place.estimator(device.table, key.label)
        if estimator_is_current(folder, table):
            estimators[device.name] = load_estimator(folder)
        else:
            estimators[device.name] = fit_estimator(table, key, folder, seed)
    progress(network.M, network.M, "U(.) of every device")
    return estimators


def _table(
    device: Device, key: Key, space: SearchSpace, place: Workspace, tell: Callable[[str], None]
) -> LatencyTable:
    path, blocks = place.table(device.table), space.blocks()
    table = read_table(path) if path.exists() else None
    have = {row.block for row in table.rows if row.key == key} if table else set()
    if table and (not table.simulated or set(blocks) <= have):
        return table
    if device.table not in simulated_names():
        raise EstimatorError(
            f"device {device.name} has no latency table {path}. Run: jmsnas profile --device {device.table}"
        )
    return profile_device(device.table, blocks, [key], place, tell=tell).table
