from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
import torchvision.models
from torch import nn

from jmsnas.blocks import build_module, example_input
from jmsnas.cost import cost
from jmsnas.errors import MeasurementError, SpaceError
from jmsnas.mobilenets import NAMES, mobilenet
from jmsnas.profiler.simulation.roofline import block_latency_s, load_simulated_device
from jmsnas.profiler.table.latency_table import RUNTIMES
from jmsnas.profiler.timing.onnx_export import export_to_onnx, seeded_module
from jmsnas.profiler.timing.torchprof_backend import layer_stages
from jmsnas.space import Block, Candidate, Part


def torchvisions(name: str, **settings: Any) -> nn.Module:
    make: Callable[..., nn.Module] = getattr(torchvision.models, name)
    return make(**settings).eval()


def randomise(module: nn.Module) -> None:
    """Draw what torchvision sets to 0 and 1, so that a forgotten bias or statistic shows."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
                assert part.running_var is not None
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.5, 0.5)
                part.running_mean.uniform_(-0.5, 0.5)
                # Small enough for epsilon 1e-5 and 1e-3 to differ in the output.
                part.running_var.uniform_(0.01, 1)
            elif isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
                part.bias.uniform_(-0.5, 0.5)


@pytest.mark.parametrize("width", [1.0, 0.35])
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"])
def test_it_computes_what_torchvisions_does(name: str, width: float) -> None:
    torch.manual_seed(0)
    theirs = torchvisions(name, width_mult=width, num_classes=10)
    randomise(theirs)
    part = mobilenet(name, (3, 64, 64), 10, width)
    ours = build_module(part).eval()
    weights = list(theirs.state_dict().values())
    names = list(ours.state_dict())
    assert len(names) == len(weights)
    ours.load_state_dict(dict(zip(names, weights, strict=True)))
    assert cost(part).parameters == sum(p.numel() for p in theirs.parameters())
    x = example_input(part, batch=2, seed=1)
    with torch.inference_mode():
        expected = theirs(x)
        assert (ours(x) - expected).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))


# MACs: V1's table 8 (569 M), V2's table 4 (300 M), V3's tables 3 and 4 (217 M, 56 M and the figures of
# torchvision's model cards, which count squeeze-and-excitation too: 216.6 M, 56.5 M).
# Parameters: 4 231 976 of Keras's and TF-slim's V1; torchvision's own count for the others.
@pytest.mark.parametrize(
    ("name", "macs", "parameters"),
    [
        ("mobilenet_v1", 569e6, 4_231_976),
        ("mobilenet_v2", 300.8e6, 3_504_872),
        ("mobilenet_v3_small", 56.5e6, 2_542_856),
        ("mobilenet_v3_large", 217e6, 5_483_032),
    ],
)
def test_published_costs(name: str, macs: float, parameters: int) -> None:
    found = cost(mobilenet(name))
    assert found.macs == pytest.approx(macs, rel=0.01)
    assert found.parameters == parameters


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("name", NAMES)
def test_small_images_work(name: str, size: int) -> None:
    part = mobilenet(name, (1, size, size), 10, 0.25)
    assert part.blocks[-1].layer.height == 1 and part.output_shape == (10,)
    with torch.inference_mode():
        assert build_module(part).eval()(example_input(part, batch=2)).shape == (2, 10)


@pytest.mark.parametrize("name", NAMES)
def test_every_block_reads_back(name: str) -> None:
    for block in mobilenet(name).blocks:
        assert Block.parse(str(block)) == block
        assert Candidate.parse(block.candidate.name) == block.candidate


def test_shortcuts_are_where_the_shape_is_kept() -> None:
    # Table 2 of V2: 17 bottlenecks in 7 sequences, all but the first of each with a shortcut.
    found = [block.candidate.shortcut for block in mobilenet("mobilenet_v2").blocks]
    assert sum(found) == 17 - 7
    # At a quarter of the width the stem and the first bottleneck both have 8 channels.
    narrow = mobilenet("mobilenet_v2", width=0.25).blocks[1]
    assert str(narrow) == "mb_k3_e1_skip 8->8 112x112"
    assert not any(block.candidate.shortcut for block in mobilenet("mobilenet_v1").blocks)


def test_a_piece_of_it_is_a_part() -> None:
    blocks = mobilenet("mobilenet_v3_large").blocks
    assert len(blocks) == 1 + 15 + 2
    first, rest = Part(blocks[:9]), Part(blocks[9:])
    assert first.output_shape == rest.input_shape == (80, 14, 14)
    assert str(rest).startswith(
        "9 blocks, mbv3_k3_hs_skip 80->80 14x14 h184 to classifier_hs 960->1000 7x7 h1280 ("
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_block_can_be_predicted_for_a_simulated_device(name: str) -> None:
    device, blocks = load_simulated_device("pi4"), mobilenet(name, (3, 32, 32)).blocks
    for runtime in RUNTIMES:
        bare_s = device.runtimes[runtime].per_call_s.value
        assert all(block_latency_s(device, runtime, block) > bare_s for block in blocks)


def test_torchprof_has_no_stages_of_these_blocks() -> None:
    for block in (Block.parse("ds_k3 8->8 4x4"), Block.parse("mbv3_k3_hs_se 8->8 4x4 h24")):
        with pytest.raises(
            MeasurementError, match="cannot break .* down: .*expected an MBConv, stem or head"
        ):
            layer_stages(block, build_module(block))


def test_onnxruntime_computes_the_same(tmp_path: Path) -> None:
    texts = ("mbv3_k5_hs_se_skip 16->16 4x4 h40", "conv_hs 16->24 4x4", "classifier_hs 24->10 4x4 h32")
    part = Part(tuple(map(Block.parse, texts)))
    (model,) = export_to_onnx([part], 1, tmp_path)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    x = example_input(part)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.inference_mode():
        assert abs(found - seeded_module(part)(x).numpy()).max() < 1e-4


def test_what_cannot_be() -> None:
    with pytest.raises(SpaceError, match="unknown model 'mobilnet_v3_larg': expected mobilenet_v3_large"):
        mobilenet("mobilnet_v3_larg")
    with pytest.raises(SpaceError, match="unknown model 'resnet18': expected mobilenet_v1 or .*v3_large"):
        mobilenet("resnet18")
    with pytest.raises(SpaceError, match="width above 0 and up to 16, as in 0.5, got -1"):
        mobilenet("mobilenet_v2", width=-1)
    with pytest.raises(SpaceError, match="got 0->32 channels"):
        mobilenet("mobilenet_v2", (0, 32, 32))
