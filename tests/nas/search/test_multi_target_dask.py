from dataclasses import replace
from pathlib import Path

import pytest
from tiny_search import CONFIG, LUT
from tiny_setup import tiny_search_setup

from jmsnas.datasets.catalog import load_dataset
from jmsnas.nas.derivation.target import targets_in_range
from jmsnas.nas.search.multi_target import ParallelOptions, run_groups, targets_group
from jmsnas.workspace import Workspace


@pytest.mark.filterwarnings("ignore")  # distributed's own, of sockets and loops that it closes late
def test_a_local_dask_cluster_gives_what_one_process_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dask.distributed import LocalCluster

    setup = tiny_search_setup(monkeypatch)
    monkeypatch.setattr(
        "jmsnas.nas.search.run.load_dataset", load_dataset
    )  # workers load the digits themselves
    config = replace(CONFIG, search_epochs=1, final_epochs=1, batch_size=256)
    group = targets_group("d", setup, config, targets_in_range(LUT, 2))
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, host="tcp://127.0.0.1"
    ) as cluster:
        on_dask = run_groups(
            Workspace(tmp_path / "a"), [group], parallel=ParallelOptions(dask=cluster.scheduler_address)
        )
    alone = run_groups(Workspace(tmp_path / "b"), [group])
    assert [run.document for run in on_dask[0]] == [run.document for run in alone[0]]
