import copy
from pathlib import Path
from typing import Any

import pytest

from jmsnas.errors import SpaceError
from jmsnas.files import preset_path, read_toml
from jmsnas.space_file import load_space, space_from_toml


@pytest.fixture
def digits() -> dict[str, Any]:
    return copy.deepcopy(read_toml(preset_path("spaces", "digits"), SpaceError))


def test_a_user_brings_other_candidates(digits: dict[str, Any]) -> None:
    digits["candidates"] = {"kernel_sizes": [3], "expansions": [2, 4], "identity": False}
    digits["stage"][0]["candidates"] = ["mb_k9_e1", "identity"]
    space = space_from_toml(digits, "own.toml")
    assert [c.name for c in space.choices[1]] == ["mb_k9_e1", "identity"]
    assert [c.name for c in space.choices[5]] == ["mb_k3_e2_skip", "mb_k3_e4_skip", "mb_k3_e2", "mb_k3_e4"]
    assert space.R == 4


def test_a_file_and_the_users_folder(tmp_path: Path) -> None:
    text = preset_path("spaces", "digits").read_text().replace("channels = 128", "channels = 64")
    (tmp_path / "digits.toml").write_text(text)
    assert load_space(str(tmp_path / "digits.toml")).layers[-1].hidden_channels == 64
    assert load_space("digits", tmp_path).layers[-1].hidden_channels == 64
    assert load_space("digits").layers[-1].hidden_channels == 128


def test_an_unknown_space() -> None:
    with pytest.raises(
        SpaceError, match="unknown space 'digit': expected one of .*digits.* or a file ending in .toml"
    ):
        load_space("digit")


def test_a_stage_of_other_operations(digits: dict[str, Any]) -> None:
    digits["stage"][0]["candidates"] = ["ds_k3", "mb_k3_e3"]
    space = space_from_toml(digits, "own.toml")
    assert [c.name for c in space.choices[1]] == ["ds_k3", "mb_k3_e3"] and len(space.blocks()) > 0
    # A stage says no hidden channels, and no stem stands inside it.
    digits["stage"][0]["candidates"] = ["mbv3_k3_re", "stem"]
    with pytest.raises(SpaceError, match="layer 2 .*needs one or more different candidates, got none"):
        space_from_toml(digits, "own.toml")


def test_wrong_keys_and_values(digits: dict[str, Any]) -> None:
    with pytest.raises(SpaceError, match="own.toml has unknown keys sizes"):
        space_from_toml({**digits, "sizes": 3}, "own.toml")
    with pytest.raises(SpaceError, match=r"own.toml \[stem\] has unknown keys kernel"):
        space_from_toml({**digits, "stem": {**digits["stem"], "kernel": 5}}, "own.toml")
    with pytest.raises(SpaceError, match="own.toml lacks the key 'head'"):
        space_from_toml({k: v for k, v in digits.items() if k != "head"}, "own.toml")
    with pytest.raises(SpaceError, match="own.toml has a value of the wrong kind"):
        space_from_toml({**digits, "input": "8x8"}, "own.toml")
    with pytest.raises(SpaceError, match="own.toml has a value of the wrong kind"):
        space_from_toml({**digits, "stage": 3}, "own.toml")


def test_a_layer_without_candidates(digits: dict[str, Any]) -> None:
    digits["stage"][1]["candidates"] = ["identity"]
    with pytest.raises(SpaceError, match="layer 5 .*needs one or more different candidates, got none"):
        space_from_toml(digits, "own.toml")
    digits["stage"][1]["candidates"] = ["mb_k3_e3", "mb_k3_e3"]
    with pytest.raises(SpaceError, match="got mb_k3_e3, mb_k3_e3"):
        space_from_toml(digits, "own.toml")


def test_a_mesh_of_three_branches(digits: dict[str, Any]) -> None:
    space = space_from_toml(digits, "own.toml", 3)
    # Stem, three layers of 16 and one of 24 channels; three branches of three; three of 32, head.
    assert space.N == 18 and space.trunk == 5 and space.main_path == (0, 1, 2, 3, 4, 14, 15, 16, 17)
    assert space.branches == ((5, 6, 7), (8, 9, 10), (11, 12, 13))
    assert {space.layers[n].in_channels for n in (5, 8, 11)} == {24}
    assert space.layers[14].input_shape == space.layers[13].output_shape == (24, 4, 4)
    assert space_from_toml(digits, "own.toml").branches == ()


def test_branches_that_differ(digits: dict[str, Any]) -> None:
    digits["mesh"]["branch"].append({"layers": 2, "channels": 24, "stride": 1, "only": [2]})
    space = space_from_toml(digits, "own.toml", 2)
    assert [len(branch) for branch in space.branches] == [3, 5]
    digits["mesh"]["branch"][1]["channels"] = 32
    with pytest.raises(SpaceError, match=r"the same output shape.*got \(24, 4, 4\), \(32, 4, 4\)"):
        space_from_toml(digits, "own.toml", 2)
    digits["mesh"]["branch"] = [{"layers": 2, "channels": 24, "stride": 1, "only": [2]}]
    with pytest.raises(SpaceError, match="every branch needs one layer or more"):
        space_from_toml(digits, "own.toml", 2)


def test_a_space_without_a_mesh(digits: dict[str, Any]) -> None:
    del digits["mesh"]
    with pytest.raises(SpaceError, match=r"own.toml has no \[mesh\]: expected the layers of a mesh as"):
        space_from_toml(digits, "own.toml", 3)


@pytest.mark.parametrize("layers", [10**12, 1001, -1])
def test_number_of_layers_is_bounded_before_they_are_made(digits: dict[str, Any], layers: int) -> None:
    digits["stage"][0]["layers"] = layers
    with pytest.raises(SpaceError, match=f"has layers {layers}: expected a number up to 1000"):
        space_from_toml(digits, "x.toml")
