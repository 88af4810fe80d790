import copy
import math
from pathlib import Path
from typing import Any

import pytest
from synthetic_device import TOY, synthetic_document

from jmsnas.errors import DeviceError
from jmsnas.files import read_toml
from jmsnas.profiler.simulation.device_file import RooflineValidation, device_from_toml

CHECKED: dict[str, Any] = {"against": "a made-up table", "rows": 7, "rank": -0.5, "median_error": 1}


def test_a_runtime_may_have_a_validation() -> None:
    document = synthetic_document()
    document["onnxruntime"]["checked"] = CHECKED
    runtimes = device_from_toml(document, "toy.toml").runtimes
    assert runtimes["onnxruntime"].checked == RooflineValidation("a made-up table", 7, -0.5, 1.0)
    assert runtimes["torch"].checked is None
    assert TOY.runtimes["onnxruntime"].evidence and TOY.runtimes["onnxruntime"].checked is None


_TEXT = "Expected `str` of length >= 1 - at"
WRONG = [
    (("colour",), "red", "unknown field `colour`"),
    (("torch", "turbo"), 1, r"unknown field `turbo` - at `\$\.torch`"),
    (("torch", "depthwise", "flops"), 1, r"unknown field `flops` - at `\$\.torch\.depthwise`"),
    (("torch", "elementwise", "macs_per_s"), 1, r"unknown field `macs_per_s` - at `\$\.torch\.elementwise`"),
    (("torch", "per_call_s", "unit"), "s", r"unknown field `unit` - at `\$\.torch\.per_call_s`"),
    (("name",), None, r"toy\.toml is not a device file: .*missing required field `name`\. See docs/simul"),
    (("onnxruntime",), None, "missing required field `onnxruntime`"),
    (("torch", "evidence"), None, r"missing required field `evidence` - at `\$\.torch`"),
    (("torch", "pointwise", "overhead_s"), None, r"field `overhead_s` - at `\$\.torch\.pointwise`"),
    (("torch", "per_call_s", "source"), None, r"field `source` - at `\$\.torch\.per_call_s`"),
    (("torch",), 3, r"Expected `object`, got `int` - at `\$\.torch`"),
    (("torch", "per_call_s"), 0.1, r"Expected `object`, got `float` - at `\$\.torch\.per_call_s`"),
    (("dated",), "2026-01-02", r"Expected `date`, got `str` - at `\$\.dated`"),
    (("processor",), "gpu", r"Invalid enum value 'gpu' - at `\$\.processor`"),
    (("processor",), None, "missing required field `processor`"),
    (("name",), 7, r"Expected `str`, got `int` - at `\$\.name`"),
    (("torch", "basis"), "", rf"{_TEXT} `\$\.torch\.basis`"),
    (("torch", "per_call_s", "source"), "", rf"{_TEXT} `\$\.torch\.per_call_s\.source`"),
    (("torch", "evidence"), 1, r"Expected `bool`, got `int` - at `\$\.torch\.evidence`"),
    (("torch", "checked"), CHECKED, r"evidence = false, expected evidence = true - at `\$\.torch`"),
    (("onnxruntime", "checked"), 0.9, r"Expected `object \| null`, got `float` - at .*\.checked`"),
    (("onnxruntime", "checked"), CHECKED | {"p90": 1}, r"unknown field `p90` - at .*\.checked`"),
    (("onnxruntime", "checked"), {"rank": 1}, r"missing required field `against` - at .*\.checked`"),
    (("onnxruntime", "checked"), CHECKED | {"against": ""}, rf"{_TEXT} .*checked\.against`"),
    *[
        (("onnxruntime", "checked"), CHECKED | {"rows": rows}, r"Expected `int`.* - at .*checked\.rows`")
        for rows in (0, -3, 1.5, True, "18")
    ],
    *[
        (("onnxruntime", "checked"), CHECKED | {"rank": rank}, r"Expected `float`.* - at .*checked\.rank`")
        for rank in (1.01, -2, True, "1", math.nan)
    ],
    *[
        (("onnxruntime", "checked"), CHECKED | {"median_error": error}, r"`float`.* - at .*\.median_error`")
        for error in (-0.1, 11, False, math.inf)
    ],
    *[
        (("torch", "per_call_s", "value"), value, r"Expected `float`.* - at `\$\.torch\.per_call_s\.value`")
        for value in (0, -1.5, True, "1", math.inf, math.nan)
    ],
]


@pytest.mark.parametrize(("where", "value", "expected"), WRONG)
def test_invalid_device_files(where: tuple[str, ...], value: Any, expected: str) -> None:
    document = copy.deepcopy(synthetic_document())
    table = document
    for key in where[:-1]:
        table = table[key]
    if value is None:
        del table[where[-1]]
    else:
        table[where[-1]] = value
    with pytest.raises(DeviceError, match=expected):
        device_from_toml(document, "toy.toml")


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.toml"
    path.write_text("name = ")
    with pytest.raises(DeviceError, match=r"toy\.toml is not a TOML file"):
        device_from_toml(read_toml(path, DeviceError), str(path))
