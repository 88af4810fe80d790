from pathlib import Path

import pytest
import torch
from deployments import network

from jmsnas.deploy.parts import export
from jmsnas.deploy.parts.export import cached_export, export_model

SHAPE = (1, 1, 8, 8)


def test_cached_export_gives_the_same_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = cached_export(network(0), SHAPE, tmp_path)
    cuts = [(first, last) for first in range(1, 7) for last in range(first, 7)]
    expected = [fresh.onnx_part(*cut) for cut in cuts]
    assert [export_model(network(0), SHAPE).onnx_part(*cut) for cut in cuts] == expected

    def never(*_: object) -> None:
        raise AssertionError("exported again")

    with monkeypatch.context() as patched:
        patched.setattr(export, "export_model", never)
        kept = cached_export(network(0), SHAPE, tmp_path)
    assert [kept.onnx_part(*cut) for cut in cuts] == expected and kept.shapes == fresh.shapes
    assert len(list(tmp_path.iterdir())) == 1


def test_cache_misses_for_other_weights_shapes_and_damaged_files(tmp_path: Path) -> None:
    cached_export(network(0), SHAPE, tmp_path)
    (path,) = tmp_path.iterdir()
    other = network(0)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    cached_export(other, SHAPE, tmp_path)
    cached_export(network(0), (2, *SHAPE[1:]), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    cached_export(network(0), SHAPE, tmp_path)
    assert path.read_bytes() == whole
