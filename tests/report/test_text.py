from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.report import text
from jmsnas.report.report_data import ReportData, read_report_data
from jmsnas.report.split_map_plot import compute_split_maps
from jmsnas.workspace import Workspace


@pytest.fixture
def data(run: Path) -> ReportData:
    return read_report_data(Workspace(run.parents[1]), run)


def summary_of(data: ReportData, latency_s: float, **derived: Any) -> str:
    """Summary of the same run with another T."""
    run = replace(data.run, derived=replace(data.run.derived, **derived))
    changed = replace(data, run=run, derived=replace(data.derived, latency_s=latency_s))
    return " ".join(text.summary(changed))


def with_cloud_s(data: ReportData, cloud_s: float) -> ReportData:
    return replace(data, run=replace(data.run, cloud_only=replace(data.run.cloud_only, latency_s=cloud_s)))


def test_summary(data: ReportData) -> None:
    t_const_s = data.run.target.t_const_s
    within = summary_of(data, 0.99 * t_const_s, in_band=True, optimal=True)
    assert "a model of 12 layers" in within and "pi4 (UE) runs layer" in within
    assert "(99.0 % of it)" in within and ", within the deadline T_const = " in within
    assert "within 3.0 % below the deadline it is the most likely: proven." in within
    assert "cloud runs layer" in within
    above = summary_of(data, 1.01 * t_const_s, in_band=True, optimal=False)
    assert ", ABOVE the deadline" in above and "not proven, as the search was stopped early" in above
    assert "No model's T lies within 3.0 % below the deadline" in summary_of(
        data, 0.5 * t_const_s, in_band=False
    )
    argmax = replace(data, config=replace(data.config, derive="argmax"))
    assert "(argmax), regardless of the deadline." in summary_of(argmax, 0.5 * t_const_s, in_band=False)


def test_layer_ranges() -> None:
    assert text.layer_range(LatencyTerm("a", (1, 2, 3), 1.0, 0.0, 0.0)) == "layers 1 to 3"
    assert text.layer_range(LatencyTerm("a", (4,), 1.0, 0.0, 0.0)) == "layer 4"
    assert text.layer_range(LatencyTerm("a", (), 0.0, 0.0, 0.0)) == "no layer (relay)"


def test_cloud_only_faster_and_slower(data: ReportData) -> None:
    # T of 2 ms against 0.8 ms: 2.5 times; against 4 ms: 50 % saved.
    split = replace(data, derived=replace(data.derived, latency_s=2e-3))
    faster, other = text.cloud_text(with_cloud_s(split, 0.8e-3))
    assert faster.startswith("Cloud only is faster here. An 8x8 image costs nothing to send: as uint8")
    assert "0.8000 ms in all against T = 2.000 ms of the split, 2.5 times as fast" in faster
    # float32 sends four times 33.28 us: 0.8 - 0.03328 + 0.13312 = 0.89984 ms.
    assert other == "With a float32 input, cloud only would take 0.8998 ms."
    slower, _ = text.cloud_text(with_cloud_s(split, 4e-3))
    assert slower.startswith("T of the split is 50.0 % below that of cloud only.")
    equal, _ = text.cloud_text(with_cloud_s(split, 2e-3))
    assert equal.startswith("The split takes as long as cloud only: as uint8 it is 64 bytes")
    every = tuple(n for term in split.derived.terms for n in term.layers)
    alone = tuple(replace(k, layers=every if k.device == "laptop" else ()) for k in split.derived.terms)
    on_laptop = replace(split, derived=replace(split.derived, terms=alone))
    slower, _ = text.cloud_text(with_cloud_s(on_laptop, 4e-3))
    assert slower.startswith("T of the placement on laptop alone is 50.0 % below that of cloud only.")
    assert "and placed it on laptop alone: pi4 (UE) runs no layer (relay)" in text.summary(on_laptop)[0]


def test_verdict_over_the_alternatives(data: ReportData) -> None:
    words = text.verdict_text(data)
    assert words.startswith("T of the searched split ") and "; device only " in words and words.endswith(".")
    assert text.verdict_text(replace(data, run=replace(data.run, alternatives=None))) == ""


def test_latency_sources(data: ReportData) -> None:
    pi4 = data.devices[0]
    source = text.latency_source(pi4)
    assert source.startswith("53 rows SIMULATED, Raspberry Pi 4") and "roofline of devices/pi4.toml" in source
    assert pi4.model
    its = pi4.model.table
    row = replace(its.rows[0], kind="measured", environment="here", measured_at="2026-11-23T10:00:00")
    basis = replace(pi4.model, table=replace(its, rows=(row,), environments={"here": {"cpu": "Some CPU"}}))
    assert text.latency_source(replace(pi4, model=basis)) == "1 rows measured on Some CPU, 2026-11-23"
    assert text.latency_source(replace(pi4, model=replace(basis, setting="Some board, TFLite"))) == (
        "53 rows published by others: Some board, TFLite; 1 of them is a block of JMSNAS"
    )
    assert text.latency_source(replace(pi4, model=None, problem="gone")) == "gone"


def test_split_map_text() -> None:
    uint8, float32 = text.split_map_text(compute_split_maps())
    assert uint8.startswith("uint8 input, 25 Mbit/s, 224x224 (the star): the best placement is ")
    # The split loses with a uint8 image, and wins with a float32 image of four times the bytes.
    assert "slower than cloud only" in uint8 and "faster than cloud only" in float32


def test_commands(data: ReportData) -> None:
    again = [command.line for command in text.repeat_commands(data)]
    devices = "--device pi4 --device laptop --device jetson --device cloud"
    assert again[0] == f"jmsnas profile {devices} --space digits"
    assert again[1] == f"jmsnas fit-estimator {devices}"
    assert again[2] == (
        "jmsnas search --topology chain --space digits --dataset digits --seed 0 "
        f"--threads 1 --train-on auto --t-const {data.run.target.t_const_s!r}s"
    )
    assert again[3] == "jmsnas report short"
    pi4, *others = data.devices
    published = replace(data, devices=(replace(pi4, origin="published"), *others))
    lines = [command.line for command in text.repeat_commands(published)]
    assert lines[0] == f"jmsnas profile {devices.removeprefix('--device pi4 ')} --space digits"
    assert lines[2] == "jmsnas fit-estimator --table FILE"
    searches = text.repeat_commands(data)[2].description
    assert "SearchConfig(warmup_epochs = 1, search_epochs = 1, final_epochs = 1)" in searches
    following = [command.line for command in text.next_commands(data)]
    assert "jmsnas profile --device jetson --space digits --measured-only" in following
    assert any("--topology desk" in line for line in following)


def test_names_are_quoted_for_the_shell(data: ReportData) -> None:
    changed = replace(data, config=replace(data.config, topology="a; rm -rf b", space="$(x)"))
    search = text.repeat_commands(changed)[2]
    assert "--topology 'a; rm -rf b' --space '$(x)'" in search.line
    assert "the topology is your own file" in search.description
