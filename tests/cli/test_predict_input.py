import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mesh_runs import write_mesh_run

from jmsnas.cli.predict_arguments import PredictArguments
from jmsnas.cli.predict_input import (
    DevicePart,
    architecture_part,
    devices_and_runtimes,
    model_of_run,
    parse_block,
    requested_blocks,
)
from jmsnas.errors import InputError, SpaceError
from jmsnas.nas.run_result import RunResult
from jmsnas.space import Part
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

DIGITS = load_space("digits")
NAMES = ",".join(choices[0].name for choices in DIGITS.choices[1:-1])


def test_a_block_from_its_name_and_geometry() -> None:
    assert str(parse_block("mb_k5_e6", "32x28x14", None, None)) == "mb_k5_e6 32->32 28x14"
    assert str(parse_block("mb_k5_e6", "32x28x14", 64, 2)) == "mb_k5_e6 32->64 28x14 /2"
    assert str(parse_block("stem", "3x32x32", 16, 2)) == "stem 3->16 32x32 /2"
    assert str(parse_block(" mb_k5_e6 32->64 28x14 /2 ", None, None, None)) == "mb_k5_e6 32->64 28x14 /2"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("mb_k5_e6", None, None, None),
            "mb_k5_e6 needs its input's channels, height and width, such as --in 32x28x28",
        ),
        (
            ("mb_k5_e6", "32x28", None, None),
            "cannot read --in '32x28': expected CHANNELSxHEIGHTxWIDTH, such as",
        ),
        (("mb_k5_e6", "32x28x28x1", None, None), "cannot read --in '32x28x28x1'"),
        (("mb_k5_e6", "0x28x28", None, None), "a layer needs channels, height and width from 1 to 65536"),
        (("mb_k5_e6", "32x28x28", 0, None), "a layer needs channels, height and width from 1 to 65536"),
        (("mb_k5_e6", "32x28x28", None, 3), "stride 1 or 2"),
        (("mb_k4_e6", "32x28x28", None, None), "mb needs an odd kernel_size up to 31"),
        (
            ("mbconv", "32x28x28", None, None),
            "unknown candidate 'mbconv': expected a name such as mb_k5_e6_skip",
        ),
        (("mb_k5_e6_skip", "32x28x28", 64, None), "mb_k5_e6_skip needs a layer that keeps its shape"),
        (
            ("head", "32x2x2", 10, None),
            "head has hidden channels: give the whole block as one text, such as --block 'head",
        ),
        (
            ("mb_k5_e6 32->64 28x28", "32x28x28", None, None),
            "includes its geometry: leave out --in, --out and",
        ),
        (("mb_k5_e6 32 64", None, None, None), "cannot read the block 'mb_k5_e6 32 64'"),
    ],
)
def test_a_block_that_cannot_be(words: tuple[Any, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parse_block(*words)


def test_an_architecture_from_candidate_names() -> None:
    part = architecture_part(NAMES, DIGITS)
    assert len(part.blocks) == DIGITS.N
    assert (part.blocks[0].candidate.name, part.blocks[-1].candidate.name) == ("stem", "head")
    with pytest.raises(
        SpaceError, match="got 1 names in --arch: expected 10, one for each layer of space digits"
    ):
        architecture_part("mb_k3_e3", DIGITS)
    with pytest.raises(SpaceError, match="layer 2 cannot be mb_k9_e3: expected one of mb_k3_e3_skip"):
        architecture_part(NAMES.replace(NAMES.split(",")[0], "mb_k9_e3", 1), DIGITS)


def test_one_of_block_arch_and_run(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for args in (
        PredictArguments(),
        PredictArguments(block=["a"], arch="b"),
        PredictArguments(arch="b", run="c"),
    ):
        with pytest.raises(InputError, match="expected one of --block, --arch and --run. Examples: jmsnas"):
            requested_blocks(args, workspace)
    for args in (
        PredictArguments(input_shape="1x1x1", arch=NAMES),
        PredictArguments(block=["mb_k3_e3 8->8 4x4"], space="digits"),
    ):
        with pytest.raises(InputError, match="--in, --out and --stride belong to --block, --space to --arch"):
            requested_blocks(args, workspace)
    first = "mb_k3_e3 8->16 4x4 /2"
    part, parts = requested_blocks(PredictArguments(block=[first, "identity 16->16 2x2"]), workspace)
    assert len(part.blocks) == 2 and parts == ()
    assert (
        len(requested_blocks(PredictArguments(arch=NAMES, space="digits"), workspace)[0].blocks) == DIGITS.N
    )
    with pytest.raises(SpaceError, match="identity 8->8 2x2 cannot follow mb_k3_e3 8->16 4x4 /2"):
        requested_blocks(PredictArguments(block=[first, "identity 8->8 2x2"]), workspace)


def test_the_model_of_a_run_and_its_parts(short_run: tuple[Workspace, RunResult]) -> None:
    workspace, run = short_run
    part, cuts = model_of_run(workspace, "short")
    assert [str(block.layer) for block in part.blocks] == [str(layer) for layer in DIGITS.layers]
    assert [n for cut in cuts for n in cut.layers] == list(range(1, DIGITS.N + 1))
    assert [block for cut in cuts for block in cut.part.blocks] == list(part.blocks)
    assert {cut.device for cut in cuts} <= {"pi4", "laptop", "jetson", "cloud"}
    assert model_of_run(Workspace(Path("elsewhere")), str(run.folder)) == (part, cuts)


def test_a_run_over_a_mesh(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_mesh_run(workspace, "mesh")
    part, cuts = model_of_run(workspace, "mesh")
    assert sorted(n for cut in cuts for n in cut.layers) == list(range(1, len(part.blocks) + 1))
    assert {"mbs1", "mbs2", "mbs3"} <= {cut.device for cut in cuts}
    for cut in cuts:
        assert cut.part.blocks == tuple(part.blocks[n - 1] for n in cut.layers)


def test_a_run_that_is_not_there_or_damaged(short_run: tuple[Workspace, RunResult], tmp_path: Path) -> None:
    workspace, run = short_run
    with pytest.raises(InputError, match="no finished run 'shrt' in .*runs: expected short"):
        model_of_run(workspace, "shrt")
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    document = json.loads((copy / "result.json").read_text())
    for changes in ({"candidates": ["mb_k9"]}, {"terms": []}, {"candidates": 7}):
        (copy / "result.json").write_text(json.dumps(document | {"derived": document["derived"] | changes}))
        with pytest.raises(
            InputError, match="result.json is damaged, or not as expected .*Run the search again"
        ):
            model_of_run(workspace, str(copy))


def test_devices_and_runtimes() -> None:
    part = Part((parse_block("mb_k3_e3 8->8 4x4", None, None, None),))
    parts = [
        DevicePart("ue", "pi4", "torch", (1,), part),
        DevicePart("cloud", "cloud", "onnxruntime", (2,), part),
    ]
    assert devices_and_runtimes(PredictArguments(), ()) == [("local", None)]
    assert devices_and_runtimes(PredictArguments(runtime="torch"), ()) == [("local", "torch")]
    assert devices_and_runtimes(PredictArguments(), parts) == [("pi4", "torch"), ("cloud", "onnxruntime")]
    named = PredictArguments(device=["pi4", "local", "pi4"])
    assert devices_and_runtimes(named, parts) == [("pi4", "torch"), ("local", None)]
    other = PredictArguments(device=["pi4"], runtime="onnxruntime")
    assert devices_and_runtimes(other, parts) == [("pi4", "onnxruntime")]
