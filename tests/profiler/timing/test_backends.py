import inspect
import os
import threading
import time
from pathlib import Path

import pytest
import torch
from profiling_jobs import PART

from jmsnas.blocks import example_input
from jmsnas.errors import MeasurementError
from jmsnas.profiler.host import affinity as core
from jmsnas.profiler.host.affinity import idlest_cores
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.timing import onnx_session, torch_backend
from jmsnas.profiler.timing.backends import pinned, prepare
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.profiler.timing.paired_timing import TimedLoop, wall_clock
from jmsnas.space import IDENTITY, Block, Candidate, Layer

BLOCK = Block(Candidate(3, 3), Layer(8, 8, 1, 4, 4))
SAME = Block(IDENTITY, Layer(8, 8, 1, 4, 4))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


def output_of(timed: TimedLoop) -> torch.Tensor:
    """What a block of onnxruntime left in its bound output."""
    call = inspect.getclosurevars(timed).nonlocals["call"]
    return torch.from_numpy(call.args[0].get_outputs()[0].numpy())


@pytest.mark.parametrize("timer", ["wall", "torchprof"])
def test_torch_runs_the_block_so_many_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timer: str
) -> None:
    key, met = RuntimeKey("torch", batch=3, timer=timer), list[torch.Tensor]()
    module = seeded_module(BLOCK, 4)
    whole = module.forward
    module.forward = lambda x: (met.append(x), whole(x))[1]  # type: ignore[method-assign]
    monkeypatch.setattr(torch_backend, "seeded_module", lambda subject, seed: module)
    (timed,) = prepare([BLOCK], key, tmp_path, seed=4)
    met.clear()
    with pinned(key):
        assert timed(5) > 0
    assert len(met) == 5
    torch.testing.assert_close(met[0], example_input(BLOCK, 3, 4))
    assert not list(tmp_path.iterdir()), "eager torch needs no exported model"


@pytest.mark.parametrize("threads", [1, 2])
def test_onnxruntime_fills_the_bound_output(cache: Path, threads: int) -> None:
    key, subjects = RuntimeKey("onnxruntime", threads), (BLOCK, SAME, PART)
    for subject, timed in zip(subjects, prepare(subjects, key, cache), strict=True):
        with pinned(key):
            assert timed(2) > 0
        expected = seeded_module(subject)(example_input(subject))
        torch.testing.assert_close(output_of(timed), expected, atol=1e-4, rtol=1e-4)


def test_onnxruntime_runs_the_block_so_many_times(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr(
        onnx_session, "wall_clock", lambda call: wall_clock(lambda: (calls.append(None), call())[1])
    )
    (timed,) = prepare([BLOCK], RuntimeKey(), cache)
    calls.clear()
    assert timed(20) > 0 and len(calls) == 20


def test_more_calls_take_longer(cache: Path) -> None:
    for key in (RuntimeKey(), RuntimeKey("torch"), RuntimeKey("torch", timer="torchprof")):
        (timed,) = prepare([BLOCK], key, cache)
        with pinned(key):
            timed(1)
            once, often = min(timed(1) for _ in range(5)), min(timed(20) for _ in range(3))
        assert 5 * once < often


def test_layout_and_number_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    met: list[torch.Tensor] = []
    module = seeded_module(BLOCK)
    whole = module.forward
    module.forward = lambda x: (met.append(x), whole(x))[1]  # type: ignore[method-assign]
    monkeypatch.setattr(torch_backend, "seeded_module", lambda subject, seed: module)
    for layout, form in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        (timed,) = prepare([BLOCK], RuntimeKey("torch", batch=2, layout=layout), tmp_path)
        timed(1)
        assert met[-1].is_contiguous(memory_format=form) and met[-1].dtype == torch.float32
        weights = [weight for weight in module.parameters() if weight.dim() == 4]
        assert all(weight.is_contiguous(memory_format=form) for weight in weights)


def test_torchprof_sums_over_the_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {"layers.0": 1e-3, "layers.1": 2e-3}
    monkeypatch.setattr("jmsnas.profiler.timing.torchprof_backend.layer_latency_s", lambda module, x: layers)
    (timed,) = prepare([BLOCK], RuntimeKey("torch", timer="torchprof"), tmp_path)
    assert timed(4) == pytest.approx(4 * 3e-3)


def test_spoilt_model_is_named(cache: Path) -> None:
    prepare([SAME], RuntimeKey(), cache)
    kept = {path: path.read_bytes() for path in cache.iterdir()}
    for path in kept:
        path.write_bytes(b"no model")
    with pytest.raises(MeasurementError, match=r"onnxruntime refuses identity .*Delete .* and run the same"):
        prepare([SAME], RuntimeKey(), cache)
    for path, content in kept.items():
        path.write_bytes(content)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this host has what must be missing")
@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        (
            "torch",
            "cannot measure torch-t1-b1-f32-cuda: torch .* finds no CUDA device here. Check nvidia-smi",
        ),
        (
            "onnxruntime",
            "cannot measure onnxruntime-t1-b1-f32-cuda: onnxruntime .* as installed has .*"
            "CPUExecutionProvider, not CUDAExecutionProvider. Install onnxruntime-gpu",
        ),
    ],
)
def test_processor_that_is_not_there(tmp_path: Path, runtime: str, message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        prepare([BLOCK], RuntimeKey(runtime, processor="cuda"), tmp_path)


def test_device_is_timed_by_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[str] = []

    class Event:
        def record(self) -> None:
            met.append("record")

        def synchronize(self) -> None:
            met.append("wait")

        def elapsed_time(self, end: "Event") -> float:
            return 12.5

    monkeypatch.setattr(torch_backend, "_event", Event)
    timed = torch_backend.device_events(lambda: met.append("call"))
    assert timed(3) == pytest.approx(0.0125)
    assert met == ["record", "call", "call", "call", "record", "wait"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_work_on_a_cuda_device_is_timed_until_it_is_done(tmp_path: Path, dtype: str) -> None:
    large = Block(Candidate(5, 6), Layer(64, 64, 1, 112, 112))
    key = RuntimeKey("torch", batch=8, dtype=dtype, processor="cuda")
    (timed,) = prepare([large], key, tmp_path)
    with pinned(key):
        timed(3)
        began = time.perf_counter()
        seconds = timed(20)
        passed_s = time.perf_counter() - began
    # 20 calls are queued within a millisecond or two; the device has to work for longer.
    assert 0.5 * passed_s < seconds <= passed_s


def test_pinned_puts_all_back() -> None:
    threads, cores = torch.get_num_threads(), getattr(os, "sched_getaffinity", lambda _: set())(0)
    with pytest.raises(RuntimeError, match="meanwhile"), pinned(RuntimeKey("torch", 1)):
        assert torch.get_num_threads() == 1 and torch.is_inference_mode_enabled()
        assert len(getattr(os, "sched_getaffinity", lambda _: {0})(0)) == 1
        raise RuntimeError("meanwhile")
    assert torch.get_num_threads() == threads and not torch.is_inference_mode_enabled()
    assert getattr(os, "sched_getaffinity", lambda _: set())(0) == cores


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed on Linux alone")
def test_threads_that_a_run_time_made_before_stay_on_their_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    cores, ended = os.sched_getaffinity(0), threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    monkeypatch.setattr(core, "idlest_cores", lambda known, count: {*sorted(known)[:1]})
    try:
        assert thread.native_id is not None
        with pinned(RuntimeKey("torch", 1)):
            assert os.sched_getaffinity(thread.native_id) == cores
        with pinned(RuntimeKey("torch", 2)):
            assert os.sched_getaffinity(0) == os.sched_getaffinity(thread.native_id) == {min(cores)}
        assert os.sched_getaffinity(0) == os.sched_getaffinity(thread.native_id) == cores
    finally:
        ended.set()
        thread.join()


def test_idlest_cores_without_a_witness(tmp_path: Path) -> None:
    assert idlest_cores({0, 3}, 1, 0.0, tmp_path / "none") == {3}
    assert idlest_cores({0, 3, 5}, 2, 0.0, tmp_path / "none") == {3, 5}


def test_idle_time_is_read_from_the_host(tmp_path: Path) -> None:
    # Nothing happens between two looks at a file that stands still: the highest core.
    (tmp_path / "stat").write_text("cpu  5 0 5 90\ncpu0 1 0 1 50 0\ncpu1 4 0 4 40 0\nintr 5\n")
    assert idlest_cores({0, 1}, 1, 0.0, tmp_path / "stat") == {1}
