import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from jmsnas.errors import EstimatorError, InputError
from jmsnas.nas.graph.model import Model, Tensor, Unit
from jmsnas.nas.load_model import load_model, load_problem
from jmsnas.nas.run_result import RunResult
from jmsnas.nas.split.general_topology import load_general_topology
from jmsnas.nas.split.jpeg_size import image_sides, jpeg_bytes
from jmsnas.workspace import Workspace

CASES = Path(__file__).parents[1] / "cases" / "onnx"
PI = load_general_topology(str(CASES / "net_pi.toml"))


def model(*shape: int) -> Model:
    return Model("any", shape, (Unit("add", (0,), (Tensor("y", (1, 4)),)),), "")


@pytest.mark.parametrize("size", [64, 33, 1])
@pytest.mark.parametrize("name", ["base", "rect", "batch8", "fp16"])
def test_another_size_than_that_of_a_file_is_refused(name: str, size: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"got --size {size}, but .*{name}.onnx has a fixed input of 3x32x"):
        load_model(Workspace(tmp_path), str(CASES / f"{name}.onnx"), size)


def test_the_size_of_a_file_is_accepted(tmp_path: Path) -> None:
    workspace, path = Workspace(tmp_path), str(CASES / "base.onnx")
    assert load_model(workspace, path, 32) == load_model(workspace, path)
    with pytest.raises(
        InputError, match=r"--width belongs to mobilenet_v1, .*: leave it out for .*base.onnx"
    ):
        load_model(workspace, path, width=0.5)


def test_the_input_of_a_run_is_fixed(short_run: tuple[Workspace, RunResult]) -> None:
    workspace, run = short_run
    side = run.blocks[0].layer.height
    assert load_model(workspace, run.folder.name, side) == load_model(workspace, run.folder.name)
    with pytest.raises(InputError, match=r"got --size 224, but .* has a fixed input of 1x8x8: leave out"):
        load_model(workspace, run.folder.name, 224)
    with pytest.raises(InputError, match="--width belongs to"):
        load_model(workspace, run.folder.name, width=2.0)


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((3, 32, 48), (32, 48)),
        ((3, 48, 32), (48, 32)),
        ((32, 48, 3), (32, 48)),
        ((1, 32, 48), None),
        ((4, 32, 32), None),
        ((3, 4097, 8), None),
        ((3, 32), None),
        ((64,), None),
        ((), None),
    ],
)
def test_images_have_three_channels(shape: tuple[int, ...], sides: tuple[int, int] | None) -> None:
    assert image_sides(shape) == sides


def test_a_jpeg_has_the_sides_of_the_input(tmp_path: Path) -> None:
    wide, square = jpeg_bytes(32, 48), jpeg_bytes(32, 32)
    assert wide > square and wide != jpeg_bytes(48, 32)
    rect = load_model(Workspace(tmp_path), str(CASES / "rect.onnx"))
    problem = load_problem(rect, PI, Workspace(tmp_path))
    assert problem.input_bytes == {"uint8": 4608.0, "float32": 18432.0, "jpeg": wide}
    picture = tmp_path / "picture.png"
    Image.effect_noise((400, 100), 80).save(picture)
    assert jpeg_bytes(16, 64, picture) > jpeg_bytes(16, 16, picture)


@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 8, 8), (64,), ()])
def test_an_input_that_is_no_image_has_no_jpeg(shape: tuple[int, ...], tmp_path: Path) -> None:
    problem = load_problem(model(*shape), PI, Workspace(tmp_path))
    with pytest.raises(
        InputError, match=r"raw input as jpeg is not known: expected --input uint8 or float32"
    ):
        problem.sent_bytes_L("jpeg")
    with pytest.raises(
        InputError, match=r"got --image photo.png, but any reads .* expected an image of 3 chan"
    ):
        load_problem(model(*shape), PI, Workspace(tmp_path), Path("photo.png"))


@pytest.mark.parametrize("shape", [(), (8,), (4, 8), (3, 224, 224)])
def test_the_command_that_measures_a_model_has_the_options_that_it_needs(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    unknown = replace(model(*shape), name="net.onnx", units=(replace(model().units[0], unknown=("erf",)),))
    with pytest.raises(
        EstimatorError, match="no figures of erf .*jmsnas profile --model net.onnx --device pi4$"
    ):
        load_problem(unknown, PI, Workspace(tmp_path))


def test_loading_an_onnx_file_imports_no_torch() -> None:
    code = "import sys, jmsnas.nas.load_model, jmsnas.nas.graph.from_onnx; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
