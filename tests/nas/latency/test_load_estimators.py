import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_published import records, write_published

from jmsnas.device import Device
from jmsnas.errors import EstimatorError
from jmsnas.estimators.fit_tables import fit_tables
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.latency.load_estimators import load_estimators
from jmsnas.space import Block
from jmsnas.space_file import load_space
from jmsnas.topology import Link, Topology
from jmsnas.workspace import Workspace

SPACE = load_space("digits")
BOARD = Device("board", "some-board-cpu-2-threads", "UE")
TOPOLOGY = Topology("two", (BOARD, Device("pi4", "pi4", "cloud")), (Link("board", "pi4", 25e6),))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Has U(.) of a published table, whose blocks reach from 8x8 pixels up."""
    found = Workspace(tmp_path / "workspace")
    fit_tables(found, tables=[write_published(tmp_path / "p.parquet", records(24))])
    return found


def test_a_published_table_speaks_for_its_device(workspace: Workspace) -> None:
    told: list[str] = []
    found = load_estimators(TOPOLOGY, SPACE, workspace, warn=told.append)
    assert [found[name].origin for name in ("board", "pi4")] == ["published", "simulated"]
    # Nothing was measured or simulated of it; of the other one there is a table now.
    assert workspace.tables == ("pi4",)
    said = next(
        line for line in told if line.startswith("PUBLISHED: board was not measured here; U(.) of Some")
    )
    assert "fitted to 24 rows" in said and "Some board, CPU, 2 threads, TensorFlow Lite" in said
    count = re.search(
        r"(\d+) of (\d+) blocks of space digits are outside the range of these rows, such as stem", said
    )
    assert count and 1 < int(count[1]) <= int(count[2]) == len(SPACE.blocks())
    lut = build_lut(SPACE, TOPOLOGY, found)
    block = Block(SPACE.choices[5][0], SPACE.layers[5])
    assert lut.U_NRM[5, 0, 0] == pytest.approx(found["board"].predict_s([block])[0])


def test_a_device_with_neither_table_nor_estimator_is_told_both_ways(workspace: Workspace) -> None:
    topology = replace(TOPOLOGY, devices=(replace(BOARD, table="other"), TOPOLOGY.devices[1]))
    with pytest.raises(
        EstimatorError,
        match="Run: jmsnas profile --device other, or fit a table .*: jmsnas fit-estimator --table",
    ):
        load_estimators(topology, SPACE, workspace)
    torch = replace(TOPOLOGY, devices=(replace(BOARD, runtime="torch"), TOPOLOGY.devices[1]))
    with pytest.raises(
        EstimatorError, match='under torch: expected runtime = "onnxruntime" in the topology file'
    ):
        load_estimators(torch, SPACE, workspace)
    assert np.isfinite(load_estimators(TOPOLOGY, SPACE, workspace, warn=len)["board"].evaluation.model.mape)
