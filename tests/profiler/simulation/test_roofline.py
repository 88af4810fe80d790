import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_device import TOY

from jmsnas.cost import operators
from jmsnas.errors import DeviceError, TableError
from jmsnas.profiler.simulation.roofline import (
    block_latency_s,
    cpu_name,
    evidence_lines,
    load_simulated_device,
    operators_latency_s,
    processor_of,
    serving_key,
    simulated_device_names,
    simulated_table,
)
from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, RUNTIMES, RuntimeKey
from jmsnas.space import IDENTITY, Block, Candidate, Layer
from jmsnas.space_file import load_space

SMALL = Block(Candidate(3, 2, True), Layer(4, 4, 1, 2, 2))
EVERY = [(name, runtime) for name in simulated_device_names() for runtime in RUNTIMES]


def test_a_compiled_graph_by_hand() -> None:
    # 4 channels, 2x2 pixels, 8 wide between. onnxruntime keeps three convolutions and the addition:
    # expand     4*8*4 = 128 MAC, 4 * (16 + 32 + 32) = 320 bytes: 0.5   + 128/128 + 320/40 =  9.5
    # depthwise  8*9*4 = 288 MAC, 4 * (32 + 32 + 72) = 544 bytes: 0.25  + 288/144 + 544/34 = 18.25
    # project    8*4*4 = 128 MAC, 4 * (32 + 16 + 32) = 320 bytes: 0.5   + 128/128 + 320/40 =  9.5
    # add                         4 * (32 + 16)      = 192 bytes: 0.125           + 192/48 =  4.125
    # and 1 a call: 42.375 s.
    assert block_latency_s(TOY, "onnxruntime", SMALL) == pytest.approx(42.375, rel=1e-12)


def test_an_eager_framework_by_hand() -> None:
    # 1 a call and 37.25 for the convolutions as above; elementwise at 16 bytes a second and 0.125 each:
    # norm 4 * (32 + 32 + 16) / 16 = 20, activation 4 * (32 + 32) / 16 = 16, twice; norm of the projection
    # 4 * (16 + 16 + 8) / 16 = 10; add 4 * (32 + 16) / 16 = 12: 94 + 6 * 0.125. Together 133 s.
    assert block_latency_s(TOY, "torch", SMALL) == pytest.approx(133.0, rel=1e-12)


def test_a_batch_moves_its_weights_once() -> None:
    # Only the expansion, batch 3: 0.5 + 3 * 128/128 + 4 * (3 * 48 + 32) / 40 = 21.1, and 1 a call.
    assert operators_latency_s(TOY, "torch", operators(SMALL)[:1], batch=3) == pytest.approx(22.1, rel=1e-12)


@pytest.mark.parametrize("name", simulated_device_names())
def test_every_constant_has_a_source(name: str) -> None:
    device = load_simulated_device(name)
    assert device.name == name and device.description and tuple(device.runtimes) == RUNTIMES
    # 1 a call, 3 for each of the two classes that multiply, 2 for elementwise; two runtimes.
    sources = [
        constant["source"]
        for costs in msgspec.to_builtins(list(device.runtimes.values()))
        for group in ({"": costs["per_call_s"]}, costs["pointwise"], costs["depthwise"], costs["elementwise"])
        for constant in group.values()
    ]
    assert len(sources) == 2 * (1 + 2 * 3 + 2)
    assert all(len(source.split()) >= 4 for source in sources)
    assert all(costs.basis for costs in device.runtimes.values())


def test_the_papers_devices_are_there() -> None:
    assert simulated_device_names() == (
        "cloud", "cloud-cpu", "jetson", "jetson-cpu", "laptop", "laptop-cpu", "pi4",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "runtime"), EVERY)
@pytest.mark.parametrize("space", ["digits", "imagenet"])
def test_identity_is_the_cheapest(name: str, runtime: str, space: str) -> None:
    device = load_simulated_device(name)
    blocks = load_space(space).blocks()
    others = [block_latency_s(device, runtime, block) for block in blocks if block.candidate != IDENTITY]
    identities = [block_latency_s(device, runtime, block) for block in blocks if block.candidate == IDENTITY]
    assert 0 < max(identities) < min(others)


@given(
    st.sampled_from(EVERY),
    st.tuples(*[st.integers(0, 3)] * 4),
    st.integers(0, 3),
    st.booleans(),
)
def test_more_work_takes_longer(
    which: tuple[str, str], sizes: tuple[int, ...], grown: int, shortcut: bool
) -> None:
    def seconds(steps: tuple[int, ...]) -> float:
        kernel, expansion, height, channels = steps
        layer = Layer(8 * (channels + 1), 8 * (channels + 1), 1, 4 << height, 4 << height)
        candidate = Candidate(2 * kernel + 3, expansion + 1, shortcut)
        return block_latency_s(load_simulated_device(which[0]), which[1], Block(candidate, layer))

    larger = tuple(size + (index == grown) for index, size in enumerate(sizes))
    assert seconds(larger) > seconds(sizes) > 0


def test_devices_are_ordered_by_speed() -> None:
    block = Block(Candidate(5, 6, True), Layer(24, 24, 1, 56, 56))
    for runtime in RUNTIMES:
        at = {
            name: block_latency_s(load_simulated_device(name), runtime, block)
            for name in simulated_device_names()
        }
        assert at["cloud"] < at["laptop"] < at["jetson"] < at["pi4"]
        assert max(at["laptop-cpu"], at["cloud-cpu"]) < at["jetson-cpu"] < at["pi4"]
        assert at["cloud"] < at["cloud-cpu"] and at["jetson"] < at["jetson-cpu"]
    for name in simulated_device_names():
        device = load_simulated_device(name)
        assert block_latency_s(device, "onnxruntime", block) < block_latency_s(device, "torch", block)


def test_rows_are_marked_simulated() -> None:
    blocks = load_space("digits").blocks()
    keys = [RuntimeKey(runtime) for runtime in RUNTIMES]
    table = simulated_table("jetson", blocks, keys)
    assert table == simulated_table("jetson", blocks, keys)
    assert table.simulated and list(table.keys) == sorted(keys) and set(table.environments) == {"simulated"}
    assert len(table.rows) == 2 * len(blocks)
    for row in table.rows:
        assert (row.kind, row.environment, row.rounds, row.converged) == ("simulated", "simulated", 0, True)
        assert row.low_s == row.median_s == row.high_s == row.min_s == row.p90_s
        assert row.median_s == block_latency_s(load_simulated_device("jetson"), row.key.runtime, row.block)
        assert row.ratio * row.reference_s == pytest.approx(row.median_s)
        assert row.reference_s == block_latency_s(
            load_simulated_device("jetson"), row.key.runtime, REFERENCE_BLOCK
        )
        assert row.half_width == 0 and row.samples == ()
        assert row.measured_at == load_simulated_device("jetson").dated.isoformat()
        assert "devices/jetson.toml" in row.source
        assert ("no evidence for this runtime" in row.source) == (row.key.runtime == "onnxruntime")


@pytest.mark.parametrize(
    "key",
    [
        RuntimeKey(threads=2),
        RuntimeKey(batch=8),
        RuntimeKey(dtype="float16", processor="cuda"),
        RuntimeKey("torch", layout="channels_last"),
        RuntimeKey("torch", timer="torchprof"),
    ],
)
def test_a_key_without_constants_is_refused(key: RuntimeKey) -> None:
    expected = rf"pi4 supports 1 thread, batch 1, float32, .* only, got {key.label}\. For other settings, on"
    with pytest.raises(TableError, match=expected):
        simulated_table("pi4", [SMALL], [key])


def test_an_unknown_device_or_run_time_is_refused() -> None:
    with pytest.raises(DeviceError, match="unknown simulated device 'pi5': expected one of cloud, cloud-cpu"):
        simulated_table("pi5", [SMALL], [RuntimeKey()])
    with pytest.raises(DeviceError, match="toy has no runtime 'tflite': expected one of onnxruntime, torch"):
        block_latency_s(TOY, "tflite", SMALL)
    with pytest.raises(DeviceError, match="pi4 has no runtime 'tflite': expected one of onnxruntime, torch"):
        evidence_lines("pi4", ["tflite"])


def test_evidence_has_a_line_per_runtime() -> None:
    assert evidence_lines("pi4", ["onnxruntime"]) == (
        "onnxruntime: validated on 18 rows of HayeonLee/HELP on a Raspberry Pi 4, TensorFlow Lite, blocks "
        "not used for the constants: rank 0.988, median error 11 %",
    )
    assert evidence_lines("jetson", RUNTIMES) == (
        "onnxruntime: no evidence for this runtime: launch costs of TensorRT on this board, no onnxruntime; "
        "rates scaled from a V100",
        "torch: evidence, but not validated on a measured table: launch costs of whole networks published "
        "with torch2trt for this board; rates scaled from a V100",
    )


def test_validations_of_device_files() -> None:
    # The two processors of which blocks were published are within a rank of 0.95 and an error of 25 %.
    checked = {
        (name, runtime): costs.checked
        for name in simulated_device_names()
        for runtime, costs in load_simulated_device(name).runtimes.items()
        if costs.checked
    }
    blocks = {("pi4", "onnxruntime"), ("pi4", "torch"), ("cloud-cpu", "torch")}
    assert set(checked) == blocks | {("cloud", "torch")}
    for which in blocks:
        assert checked[which].rank >= 0.95 and checked[which].median_error <= 0.25


def test_a_device_serves_as_it_was_profiled() -> None:
    torch, last = RuntimeKey("torch"), RuntimeKey("torch", layout="channels_last")
    gpu = RuntimeKey("torch", processor="cuda")
    assert serving_key("jetson", "torch", [torch, gpu]) == gpu
    assert serving_key("jetson", "torch", [torch]) == gpu  # its rows of a CPU are not the GPU's
    assert serving_key("jetson", "onnxruntime", [RuntimeKey()]).processor == "cuda"
    wide = RuntimeKey("torch", processor="cuda", layout="channels_last")
    assert serving_key("jetson", "torch", [torch, wide]) == wide
    assert serving_key("somebody", "torch", [gpu, last, torch]) == torch
    assert serving_key("somebody", "torch", [last, gpu]) == last
    assert serving_key("somebody", "torch", [gpu, RuntimeKey()]) == gpu
    assert (
        serving_key("somebody", "onnxruntime", [gpu]) == RuntimeKey()
    )  # and fit_estimator says that it is not there


def test_processor_of_a_device_name() -> None:
    assert [cpu_name(name) for name in ("jetson", "jetson-cpu", "pi4", "somebody")] == [
        "jetson-cpu",
        "jetson-cpu",
        "pi4",
        "somebody",
    ]
    found = {name: processor_of(name) for name in (*simulated_device_names(), "local", "somebody")}
    assert [name for name, processor in found.items() if processor == "cuda"] == ["cloud", "jetson", "laptop"]
    assert {*found.values()} == {"cpu", "cuda"}
