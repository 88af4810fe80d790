from pathlib import Path

import pytest
import torch

from jmsnas.deploy.parts import torch_probe as file
from jmsnas.deploy.parts.torch_probe import TorchInfo, probe_torch


def test_probe_of_this_host() -> None:
    found = probe_torch("cpu")
    assert found.version == torch.__version__ and bool(found.cuda) == torch.cuda.is_available()
    assert 0 <= found.call_s < 0.1
    assert probe_torch("cpu") is found


@pytest.mark.parametrize("python", ["exit 1", "echo a torch that talks", "echo '[]'", "kill -ILL $$"])
def test_torch_that_cannot_be_imported(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text(f"#!/bin/sh\n{python}\n")
    broken.chmod(0o755)
    monkeypatch.setattr(file.sys, "executable", str(broken))
    assert probe_torch.__wrapped__("cpu") == TorchInfo("", "", 0.0)
