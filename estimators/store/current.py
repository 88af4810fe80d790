"""U(.) of a device as its table stands now: the one source of a block's seconds.

Search, split, compare, deploy and predict all ask here, so that they say the same of the same block.
"""

from jmsnas.estimators.store.estimator import Estimator, estimator_is_current, fit_estimator, load_estimator
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.progress import Progress, no_progress
from jmsnas.workspace import Workspace


def current_estimator(
    workspace: Workspace,
    device: str,
    table: LatencyTable,
    key: RuntimeKey,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Estimator:
    """Load U(.) of a device under a key, fitted anew (and kept) where its table has moved on.

    Parameters
    ----------
    table
        All that the device's table holds now.
    seed
        Of a new fit, as in `fit_estimator`.

    Raises
    ------
    TableError, EstimatorError, StorageError
        As `fit_estimator`.
    """
    folder = workspace.estimator(device, key.label)
    if estimator_is_current(folder, table):
        return load_estimator(folder)
    return fit_estimator(table, key, folder, seed, progress)
