from pathlib import Path

import pytest

from jmsnas.deploy.leader.latency_spread import keep_spread, measure_spread, read_spread
from jmsnas.errors import InputError
from jmsnas.workspace import Workspace


def test_the_spread_of_the_last_deployment_over_each_topology_is_kept(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert read_spread(workspace, "lab") is None
    # 101 requests from 1 to 2 s: the median is 1.5 s, the 95th percentile 1.95 s.
    spread = measure_spread([1 + n / 100 for n in range(101)], loopback=False)
    assert spread.ratios[0] == 1.0 and spread.ratios[45] == pytest.approx(1.95 / 1.5)
    assert spread.source.startswith("the last deployment on its devices (101 requests, 20")
    keep_spread(workspace, "lab", spread)
    other = measure_spread([1.0] * 20, loopback=True)
    keep_spread(workspace, "Another topology: 2", other)
    assert read_spread(workspace, "lab") == spread and "on loopback" in other.source
    keep_spread(workspace, "lab", other)
    assert read_spread(workspace, "lab") == read_spread(workspace, "Another topology: 2") == other


@pytest.mark.parametrize("text", ["{}", '{"schema_version": 1, "topologies": {"lab": {"ratios": [0.5]}}}'])
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calibration" / "deployments" / "spread.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError, match="Delete it, and run jmsnas deploy again"):
        read_spread(Workspace(tmp_path), "lab")
