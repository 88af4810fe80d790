from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.report import text as words
from jmsnas.report.report_data import ReportData, read_report_data
from jmsnas.report.split_map_plot import compute_split_maps
from jmsnas.workspace import Workspace


@pytest.fixture
def facts(run: Path) -> ReportData:
    return read_report_data(Workspace(run.parents[1]), run)


def told(facts: ReportData, latency_s: float, **derived: Any) -> str:
    """The answer for the same run with another T."""
    run = replace(facts.run, derived=replace(facts.run.derived, **derived))
    changed = replace(facts, run=run, derived=replace(facts.derived, latency_s=latency_s))
    return " ".join(words.answer(changed))


def with_cloud_s(facts: ReportData, cloud_s: float) -> ReportData:
    return replace(facts, run=replace(facts.run, cloud_only=replace(facts.run.cloud_only, latency_s=cloud_s)))


def test_the_answer(facts: ReportData) -> None:
    t_const_s = facts.run.target.t_const_s
    within = told(facts, 0.99 * t_const_s, in_band=True, optimal=True)
    assert "a network of 12 layers" in within and "pi4 (UE) runs layer" in within
    assert "(99.0 % of it)" in within and ", within the deadline T_const = " in within
    assert "within 3.0 % below the deadline it is the likeliest: proven." in within
    assert "cloud runs layer" in within
    above = told(facts, 1.01 * t_const_s, in_band=True, optimal=False)
    assert ", ABOVE the deadline" in above and "not proven, the search for a likelier was cut off" in above
    assert "No network's T lies within 3.0 % below the deadline" in told(
        facts, 0.5 * t_const_s, in_band=False
    )
    argmax = replace(facts, config=replace(facts.config, derive="argmax"))
    assert "(argmax), which does not look at the deadline." in told(argmax, 0.5 * t_const_s, in_band=False)


def test_layers_in_words() -> None:
    assert words.layers(LatencyTerm("a", (1, 2, 3), 1.0, 0.0, 0.0)) == "layers 1 to 3"
    assert words.layers(LatencyTerm("a", (4,), 1.0, 0.0, 0.0)) == "layer 4"
    assert words.layers(LatencyTerm("a", (), 0.0, 0.0, 0.0)) == "no layer (it passes on)"


def test_cloud_only_faster_and_slower(facts: ReportData) -> None:
    # T of 2 ms against 0.8 ms: 2.5 times; against 4 ms: 50 % saved.
    split = replace(facts, derived=replace(facts.derived, latency_s=2e-3))
    faster, other = words.cloud_sentences(with_cloud_s(split, 0.8e-3))
    assert faster.startswith("Cloud only is faster here. An 8x8 image costs nothing to send: as uint8")
    assert "0.8000 ms in all against T = 2.000 ms of the split, 2.5 times as fast" in faster
    # float32 sends four times 33.28 us: 0.8 - 0.03328 + 0.13312 = 0.89984 ms.
    assert other == "With a float32 input, cloud only would take 0.8998 ms."
    slower, _ = words.cloud_sentences(with_cloud_s(split, 4e-3))
    assert slower.startswith("The split is faster than cloud only by 50.0 %.")


def test_evidence(facts: ReportData) -> None:
    pi4 = facts.devices[0]
    said = words.evidence(pi4)
    assert said.startswith("53 rows SIMULATED, Raspberry Pi 4") and "roofline of devices/pi4.toml" in said
    assert pi4.basis
    its = pi4.basis.table
    row = replace(its.rows[0], kind="measured", environment="here", measured_at="2026-11-23T10:00:00")
    basis = replace(pi4.basis, table=replace(its, rows=(row,), environments={"here": {"cpu": "Some CPU"}}))
    assert words.evidence(replace(pi4, basis=basis)) == "1 rows measured on Some CPU, 2026-11-23"
    assert words.evidence(replace(pi4, basis=replace(basis, setting="Some board, TFLite"))) == (
        "53 rows published by others: Some board, TFLite; 1 of them is a block of JMSNAS"
    )
    assert words.evidence(replace(pi4, basis=None, trouble="gone")) == "gone"


def test_where_a_split_pays_in_words() -> None:
    uint8, float32 = words.split_sentences(compute_split_maps())
    assert uint8.startswith("uint8 input, 25 Mbit/s, 224x224 (the star): the best plan is ")
    # What the uint8 image makes lose, the four times larger float32 image makes win.
    assert "which loses to cloud only" in uint8 and "which beats cloud only" in float32


def test_commands(facts: ReportData) -> None:
    again = [command.line for command in words.commands_again(facts)]
    devices = "--device pi4 --device laptop --device jetson --device cloud"
    assert again[0] == f"jmsnas profile {devices} --space digits"
    assert again[1] == f"jmsnas fit-estimator {devices}"
    assert again[2] == (
        "jmsnas search --topology chain --space digits --dataset digits --seed 0 "
        f"--threads 1 --train-on auto --t-const {facts.run.target.t_const_s!r}s"
    )
    assert again[3] == "jmsnas report tiny"
    pi4, *others = facts.devices
    published = replace(facts, devices=(replace(pi4, origin="published"), *others))
    lines = [command.line for command in words.commands_again(published)]
    assert lines[0] == f"jmsnas profile {devices.removeprefix('--device pi4 ')} --space digits"
    assert lines[2] == "jmsnas fit-estimator --table FILE"
    searches = words.commands_again(facts)[2].does
    assert "SearchConfig(warmup_epochs = 1, search_epochs = 1, final_epochs = 1)" in searches
    following = [command.line for command in words.commands_next(facts)]
    assert "jmsnas profile --device jetson --space digits --measured-only" in following
    assert any("--topology desk" in line for line in following)


def test_names_are_quoted_for_the_shell(facts: ReportData) -> None:
    changed = replace(facts, config=replace(facts.config, topology="a; rm -rf b", space="$(x)"))
    search = words.commands_again(changed)[2]
    assert "--topology 'a; rm -rf b' --space '$(x)'" in search.line
    assert "the network is your own file" in search.does
