from pathlib import Path

import pytest

from jmsnas.errors import DeviceError
from jmsnas.workspace import Workspace, check_name


def test_places(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.table("jetson") == tmp_path / "tables" / "jetson.parquet"
    assert workspace.estimator("jetson", "torch-t1-b1-f32") == tmp_path / "estimators/jetson/torch-t1-b1-f32"
    assert workspace.run("first") == tmp_path / "runs" / "first"
    assert workspace.tables == ()
    workspace.table("pi4").parent.mkdir()
    workspace.table("pi4").touch()
    assert workspace.tables == ("pi4",)


@pytest.mark.parametrize("name", ["../x", "", "a/b", "A", "x" * 65, "-a", "a\0", "jetson "])
def test_a_name_never_leads_elsewhere(name: str) -> None:
    with pytest.raises(DeviceError, match="device name .* must be 1 to 64 of a-z"):
        check_name(name)
