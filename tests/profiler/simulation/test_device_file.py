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


def test_what_a_run_time_was_held_against_may_be_stated() -> None:
    document = synthetic_document()
    document["onnxruntime"]["checked"] = CHECKED
    runtimes = device_from_toml(document, "toy.toml").runtimes
    assert runtimes["onnxruntime"].checked == RooflineValidation("a made-up table", 7, -0.5, 1.0)
    assert runtimes["torch"].checked is None
    assert TOY.runtimes["onnxruntime"].evidence and TOY.runtimes["onnxruntime"].checked is None


WRONG = [
    (("colour",), "red", r"toy\.toml has unknown keys colour"),
    (("torch", "turbo"), 1, r"toy\.toml \[torch\] has unknown keys turbo"),
    (("torch", "depthwise", "flops"), 1, r"\[torch\] depthwise has unknown keys flops"),
    (("torch", "elementwise", "macs_per_s"), 1, r"\[torch\] elementwise has unknown keys macs_per_s"),
    (("torch", "per_call_s", "unit"), "s", r"\[torch\] per_call_s has unknown keys unit"),
    (("name",), None, r"toy\.toml lacks the key 'name'"),
    (("onnxruntime",), None, r"toy\.toml lacks the key 'onnxruntime'"),
    (("torch", "evidence"), None, r"\[torch\] lacks evidence: expected the keys evidence, basis"),
    (("torch", "pointwise", "overhead_s"), None, r"\[torch\] pointwise lacks overhead_s: expected the keys"),
    (("torch", "per_call_s", "source"), None, r"\[torch\] per_call_s lacks source"),
    (("torch",), 3, r"toy\.toml \[torch\] is 3: expected a table with the keys"),
    (("torch", "per_call_s"), 0.1, r"\[torch\] per_call_s is 0\.1: expected a table with the keys value"),
    (("dated",), "2026-01-02", r"toy\.toml has dated = '2026-01-02': expected a date such as"),
    (("processor",), "gpu", r"toy\.toml has processor = 'gpu': expected one of cpu, cuda"),
    (("processor",), None, r"toy\.toml lacks the key 'processor'"),
    (("name",), 7, r"toy\.toml has name = 7: expected words"),
    (("torch", "basis"), " ", r"\[torch\] has basis = ' ': expected words"),
    (("torch", "per_call_s", "source"), "", r"\[torch\] per_call_s has source = '': expected words"),
    (("torch", "evidence"), 1, r"\[torch\] has evidence = 1: expected true or false"),
    (("torch", "checked"), CHECKED, r"\[torch\] has checked but evidence = false: expected evidence = true"),
    (("onnxruntime", "checked"), 0.9, r"\[onnxruntime\] checked is 0\.9: expected a table with the keys"),
    (("onnxruntime", "checked"), CHECKED | {"p90": 1}, r"\[onnxruntime\] checked has unknown keys p90"),
    (("onnxruntime", "checked"), {"rank": 1}, r"checked lacks against, rows, median_error: expected the"),
    (("onnxruntime", "checked"), CHECKED | {"against": ""}, r"checked has against = '': expected words"),
    *[
        (("onnxruntime", "checked"), CHECKED | {"rows": rows}, r"has rows = .*: expected a whole number of 1")
        for rows in (0, -3, 1.5, True, "18")
    ],
    *[
        (
            ("onnxruntime", "checked"),
            CHECKED | {"rank": rank},
            r"has rank = .*: expected a number from -1 to 1",
        )
        for rank in (1.01, -2, True, "1", math.nan)
    ],
    *[
        (
            ("onnxruntime", "checked"),
            CHECKED | {"median_error": error},
            r"has median_error = .*: expected a number from 0 to 1",
        )
        for error in (-0.1, 11, False, math.inf)
    ],
    *[
        (("torch", "per_call_s", "value"), value, r"has value = .*: expected a finite number above 0")
        for value in (0, -1.5, True, "1", math.inf, math.nan)
    ],
]


@pytest.mark.parametrize(("where", "value", "expected"), WRONG)
def test_a_wrong_file_is_refused_by_name(where: tuple[str, ...], value: Any, expected: str) -> None:
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
