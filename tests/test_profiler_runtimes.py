import os
from pathlib import Path

import pytest
import torch

from jmsnas.blocks import example_input
from jmsnas.errors import InputError, MeasurementError
from jmsnas.profiler.export import seeded_module
from jmsnas.profiler.runtimes import idlest_core, pinned, prepare
from jmsnas.profiler.table import Key
from jmsnas.space import IDENTITY, Block, Candidate, Layer

BLOCK = Block(Candidate(3, 3), Layer(8, 8, 1, 4, 4))
SAME = Block(IDENTITY, Layer(8, 8, 1, 4, 4))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


def test_torch_call_runs_the_block(tmp_path: Path) -> None:
    key = Key("torch", batch=3)
    (call,) = prepare([BLOCK], key, tmp_path, seed=4)
    with pinned(key):
        found = call()
    assert isinstance(found, torch.Tensor) and found.is_inference()
    torch.testing.assert_close(found, seeded_module(BLOCK, 4)(example_input(BLOCK, 3, 4)))
    assert not list(tmp_path.iterdir()), "eager torch needs no exported model"


@pytest.mark.parametrize("threads", [1, 2])
def test_onnxruntime_call_fills_the_bound_output(cache: Path, threads: int) -> None:
    key = Key("onnxruntime", threads)
    for block, call in zip((BLOCK, SAME), prepare([BLOCK, SAME], key, cache), strict=True):
        with pinned(key):
            call()
        output = call.args[0].get_outputs()[0].numpy()  # type: ignore[attr-defined]
        expected = seeded_module(block)(example_input(block))
        torch.testing.assert_close(torch.from_numpy(output), expected, atol=1e-4, rtol=1e-4)


def test_spoilt_model_is_named(cache: Path) -> None:
    prepare([SAME], Key(), cache)
    kept = {path: path.read_bytes() for path in cache.iterdir()}
    for path in kept:
        path.write_bytes(b"no model")
    with pytest.raises(MeasurementError, match=r"onnxruntime refuses identity .*Delete .* and run the same"):
        prepare([SAME], Key(), cache)
    for path, content in kept.items():
        path.write_bytes(content)


def test_other_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot measure in float16: expected float32"):
        prepare([SAME], Key(dtype="float16"), tmp_path)


def test_pinned_puts_all_back() -> None:
    threads, cores = torch.get_num_threads(), getattr(os, "sched_getaffinity", lambda _: set())(0)
    with pytest.raises(RuntimeError, match="meanwhile"), pinned(Key("torch", 1)):
        assert torch.get_num_threads() == 1 and torch.is_inference_mode_enabled()
        assert len(getattr(os, "sched_getaffinity", lambda _: {0})(0)) == 1
        raise RuntimeError("meanwhile")
    assert torch.get_num_threads() == threads and not torch.is_inference_mode_enabled()
    assert getattr(os, "sched_getaffinity", lambda _: set())(0) == cores


def test_idlest_core_without_a_witness(tmp_path: Path) -> None:
    assert idlest_core({0, 3}, 0.0, tmp_path / "none") == 3


def test_idle_time_is_read_from_the_host(tmp_path: Path) -> None:
    # Nothing happens between two looks at a file that stands still: the highest core.
    (tmp_path / "stat").write_text("cpu  5 0 5 90\ncpu0 1 0 1 50 0\ncpu1 4 0 4 40 0\nintr 5\n")
    assert idlest_core({0, 1}, 0.0, tmp_path / "stat") == 1
