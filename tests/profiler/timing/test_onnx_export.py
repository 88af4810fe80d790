from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from profiling_jobs import PART

from jmsnas.blocks import example_input
from jmsnas.errors import StorageError
from jmsnas.profiler.timing import onnx_export as export_file
from jmsnas.profiler.timing.onnx_export import export_to_onnx, seeded_module
from jmsnas.space import HEAD, IDENTITY, STEM, Block, BlockOrPart, Candidate, Layer, Part

BLOCKS = (
    Block(STEM, Layer(1, 16, 1, 8, 8, "stem")),
    Block(Candidate(3, 3, True), Layer(16, 16, 1, 8, 8)),
    Block(Candidate(7, 6), Layer(16, 24, 2, 7, 9)),
    Block(Candidate(3, 1), Layer(8, 12, 1, 5, 5)),
    Block(IDENTITY, Layer(24, 24, 1, 4, 4)),
    Block(HEAD, Layer(32, 10, 1, 2, 2, "head", 128)),
    Block(Candidate(5, 0, True, "mbv3_hs_se"), Layer(16, 16, 1, 6, 6, hidden_channels=40)),
    PART,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def models(cache: Path) -> list[bytes]:
    return export_to_onnx(BLOCKS, 2, cache, seed=3)


@pytest.mark.parametrize("index", range(len(BLOCKS)), ids=lambda index: str(BLOCKS[index]))
def test_cut_model_gives_what_torch_gives(models: list[bytes], index: int) -> None:
    block = BLOCKS[index]
    x = example_input(block, batch=2, seed=9)
    session = InferenceSession(models[index], providers=["CPUExecutionProvider"])
    (entry,), (leaving,) = session.get_inputs(), session.get_outputs()
    shape = block.output_shape if isinstance(block, Part) else block.layer.output_shape
    assert tuple(leaving.shape) == (2, *shape)
    found = session.run(None, {entry.name: x.numpy()})[0]
    with torch.no_grad():
        expected = seeded_module(block, 3)(x).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_model_holds_its_own_block_only(models: list[bytes]) -> None:
    # MBConv with a shortcut: three convolutions (normalisation folded in), two ReLU6, one addition.
    proto = onnx.load_model_from_string(models[1])
    kinds = sorted(node.op_type for node in proto.graph.node)
    assert kinds == ["Add", "Clip", "Clip", "Conv", "Conv", "Conv"]
    onnx.checker.check_model(proto)


def test_second_time_comes_from_the_cache(cache: Path, models: list[bytes]) -> None:
    files = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(files) == len(BLOCKS)
    reported: list[tuple[float, float]] = []
    again = export_to_onnx(BLOCKS, 2, cache, 3, lambda done, total, what: reported.append((done, total)))
    assert again == models and reported == [(8, 8)]
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == files


def test_half_precision_is_another_model(cache: Path, models: list[bytes]) -> None:
    (half,) = export_to_onnx(BLOCKS[1:2], 2, cache, seed=3, dtype="float16")
    graph = onnx.load_model_from_string(half).graph
    numbers = {entry.type.tensor_type.elem_type for entry in (*graph.input, *graph.output)}
    numbers |= {
        weight.data_type for weight in graph.initializer if weight.data_type != onnx.TensorProto.INT64
    }
    assert numbers == {onnx.TensorProto.FLOAT16}
    assert len(half) < 0.7 * len(models[1])
    assert export_to_onnx(BLOCKS[1:2], 2, cache, seed=3) == [models[1]]


def test_no_more_than_32_blocks_an_export_but_a_part_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [Block(Candidate(3, 1), Layer(8, 8, 1, height, 4)) for height in range(1, 71)]
    long, short = Part((Block(IDENTITY, Layer(8, 8, 1, 4, 4)),) * 40), Part(tuple(blocks[3:4]) * 3)
    subjects = [*blocks[:35], long, short, *blocks[35:]]
    exported: list[int] = []

    def export(of: Sequence[BlockOrPart], *how: object) -> list[bytes]:
        exported.append(sum(len(subject.blocks) if isinstance(subject, Part) else 1 for subject in of))
        return [str(subject).encode() for subject in of]

    monkeypatch.setattr(export_file, "_export", export)
    reported: list[float] = []
    models = export_to_onnx(subjects, 1, tmp_path, progress=lambda done, of, what: reported.append(done))
    assert models == [str(subject).encode() for subject in subjects]
    assert exported == [32, 3, 40, 32, 6]
    # The short part is 3 blocks, 32 with 29 others: pieces of 32, 3, 1, 30 and 6 subjects.
    assert reported == [0, 32, 35, 36, 66, 72]


def test_unwritable_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        export_to_onnx(BLOCKS[4:5], 1, tmp_path / "file")


def test_weights_follow_the_seed_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (seeded_module(BLOCKS[2], seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was drawn from"
    x = example_input(BLOCKS[2])
    assert torch.equal(one(x), same(x)) and not torch.equal(one(x), other(x))
    assert not one.training


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_activations_stay_near_one(block: BlockOrPart) -> None:
    spread = float(seeded_module(block)(example_input(block)).std())
    assert 0.1 < spread < 10
