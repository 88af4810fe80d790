from typing import Any

import pytest

from jmsnas.cli.output.predict import print_predictions

MODEL = {
    "name": "roofline + trees",
    "rows": 69,
    "geometries": 12,
    "unseen_mape": 0.064,
    "unseen_within_10": 0.9,
    "unseen_coverage": 0.91,
}
ROW = {
    "latency_s": 2e-3,
    "kind": "imported",
    "low_s": 1e-3,
    "high_s": 3e-3,
    "relative_ci": 0.5,
    "trust": "red",
    "trust_reason": "imported; stands twice",
}


def block(kind: str = "predicted", **changes: Any) -> dict[str, Any]:
    found = {
        "block": "mb_k3_e3 16->24 8x8",
        "latency_s": 1e-3,
        "low_s": 0.9e-3,
        "high_s": 1.2e-3,
        "coverage": 0.9,
        "kind": kind,
        "row": None,
        "nearest": "16->16 8x8",
    }
    return found | changes


def device(*blocks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    total = {"sum": {"latency_s": 2e-3, "low_s": 1.8e-3, "high_s": 2.4e-3}, "corrected": None, "row": None}
    found = {
        "device": "board",
        "key": "torch-t1-b1-f32",
        "setting": "",
        "simulated": False,
        "origin": "measured",
        "model": MODEL,
        "correction": None,
        "blocks": list(blocks),
        "total": total,
        "cuts": [],
    }
    return found | changes


def said(capsys: pytest.CaptureFixture[str], *devices: dict[str, Any]) -> list[str]:
    print_predictions(devices)
    return capsys.readouterr().out.splitlines()


def test_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, device(block())) == [
        "mb_k3_e3 16->24 8x8",
        "board, torch-t1-b1-f32",
        "  1 ms, 90 % interval of a prediction 900 us to 1.2 ms",
        "  predicted from 69 rows of 12 geometries by roofline + trees",
        "  on unseen layer geometries: MAPE 6.4%, 90% within 10 %, interval coverage 91%",
        "  nearest geometry in the table: 16->16 8x8",
    ]


def test_a_row_that_does_not_answer_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, device(block(row=ROW, nearest=None)))
    assert "  row of this block not used: 2 ms +- 50%, red, imported; stands twice" in lines
    assert not any("nearest" in line for line in lines)


def test_rows_of_each_origin(capsys: pytest.CaptureFixture[str]) -> None:
    row = ROW | {"kind": "measured", "trust": "green", "trust_reason": "within 1 %"}
    measured = said(capsys, device(block("measured", row=row)))
    assert measured[2:] == [
        "  1 ms, 95 % interval of the median 900 us to 1.2 ms",
        "  measured row of this block, here: green, within 1 %",
    ]
    imported = said(
        capsys,
        device(block("imported", row=row, coverage=None), setting="Some board, TFLite", origin="published"),
    )
    assert imported[1:] == [
        "board, torch-t1-b1-f32, published (Some board, TFLite)",
        "  1 ms, no interval is known",
        "  measured row of this block, by others: green, within 1 %",
    ]
    simulated = said(
        capsys, device(block("simulated", row=row, coverage=None), simulated=True, origin="simulated")
    )
    assert simulated[1:] == [
        "board, torch-t1-b1-f32, SIMULATED",
        "  1 ms: SIMULATED row of this block; no interval is known",
    ]


def test_what_is_outside_says_so_and_what_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, device(block("extrapolated")))[-1] == (
        "  OUTSIDE the training range: the interval is widened: profile a --space with such blocks"
    )
    assert said(capsys, device(block("extrapolated"), setting="Some board"))[-1] == (
        "  OUTSIDE the training range: the interval is widened"
    )


def test_several_blocks_are_columns_with_marks_and_a_sum(capsys: pytest.CaptureFixture[str]) -> None:
    second = block("measured", block="identity 24->24 8x8", low_s=1e-3, high_s=1e-3)
    line = {"slope": 1.1, "junction_s": -1e-4, "parts": 5, "gap": 0.1, "error": 0.02}
    corrected = {"latency_s": 2.3e-3, "low_s": 2e-3, "high_s": 2.8e-3, "extrapolated": True}
    one = device(block(), second, correction=line)
    one["total"] |= {
        "corrected": corrected,
        "row": ROW | {"latency_s": 2.2e-3, "low_s": 2.1e-3, "high_s": 2.3e-3},
    }
    cut = {"device": "ue", "layers": [2], **device(second)["total"]}
    other = device(
        block("extrapolated"), second, device="pi4", simulated=True, origin="simulated", cuts=[cut]
    )
    assert said(capsys, one, other) == [
        "                            board                     pi4 SIMULATED",
        " 1  mb_k3_e3 16->24 8x8   ~ 1 ms  -10.0% +20.0%     ! 1 ms  -10.0% +20.0%",
        " 2  identity 24->24 8x8   = 1 ms                    = 1 ms",
        "    sum                     2 ms  -10.0% +20.0%       2 ms  -10.0% +20.0%",
        "    corrected               2.3 ms  -13.0% +21.7%     -",
        "  = row of the table, 95 % interval of the median",
        "  ~ predicted, 90 % interval",
        "  ! predicted OUTSIDE the training range, widened 90 % interval",
        "",
        "board, torch-t1-b1-f32",
        "  blocks: 1 measured, 1 predicted",
        "  predicted from 69 rows of 12 geometries by roofline + trees",
        "  on unseen layer geometries: MAPE 6.4%, 90% within 10 %, interval coverage 91%",
        "  sum: its interval is the sum of the block intervals (fully correlated errors)",
        "  corrected: 1.100 x sum and -100 us per junction of blocks, from 5 whole models; 2.0% error on "
        "held-out models, which widens the interval",
        "    measured as one call:  2.2 ms  -4.5% +4.5%; red, imported; stands twice",
        "    the correction is extrapolated beyond the measured whole models: less reliable",
        "pi4, torch-t1-b1-f32, SIMULATED",
        "  blocks: 1 measured, 1 extrapolated",
        "  predicted from 69 rows of 12 geometries by roofline + trees",
        "  simulated: not evaluated",
        "  extrapolated: OUTSIDE the training range, the interval is widened: profile a --space "
        "with such blocks",
        "  sum: its interval is the sum of the block intervals (fully correlated errors)",
        "  not corrected: a simulated device has no measured whole models",
        "  layer 2 on ue: sum  2 ms  -10.0% +20.0%",
    ]


def test_why_a_sum_is_not_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = (block(), block())
    assert "  not corrected: the published table has no whole models" in said(
        capsys, device(*blocks, setting="Some board")
    )
    assert (
        "  not corrected: too few whole models with rows of all their blocks (jmsnas profile --parts 10)"
        in said(capsys, device(*blocks))
    )


def test_one_block_on_two_devices_has_no_sum(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, device(block()), device(block("measured", row=ROW), device="pi4"))
    assert lines[1].startswith(" 1  mb_k3_e3 16->24 8x8   ~ 1 ms") and not any(
        "sum" in line for line in lines
    )
