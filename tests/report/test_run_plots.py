from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from mesh_runs import write_mesh_run

from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.report.placement_plot import draw_placement
from jmsnas.report.plot_style import (
    MEASURED_COLOUR,
    PUBLISHED_COLOUR,
    SIMULATED_COLOUR,
    milliseconds,
    percent,
    plain,
)
from jmsnas.report.report_data import ReportData, read_report_data
from jmsnas.report.run_plots import draw_estimators, draw_plan_comparison, draw_search
from jmsnas.report.split_map_plot import (
    TABLE_I_BPS,
    TABLE_I_SIZE,
    compute_split_maps,
    draw_split_maps,
    placement_label,
)
from jmsnas.report.term_schedule import schedule_terms
from jmsnas.workspace import Workspace


@pytest.fixture
def data(run: Path) -> ReportData:
    return read_report_data(Workspace(run.parents[1]), run)


@pytest.fixture
def mixed(data: ReportData) -> ReportData:
    """The same run as if its first device had been measured."""
    return replace(data, devices=(replace(data.devices[0], origin="measured"), *data.devices[1:]))


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    return [*found, *titles, figure.get_suptitle()]


def test_names_are_safe_to_draw() -> None:
    assert plain("pi4") == "pi4"
    assert plain("$x^2$") == r"\$x^2\$"
    assert plain("a\nb\u624b") == "a?b?"
    assert plain("x" * 30) == "x" * 21 + "..."


def test_number_formats() -> None:
    assert milliseconds(0.0018843) == "1.884 ms" and milliseconds(0.0015) == "1.500 ms"
    assert milliseconds(0.19567048) == "195.7 ms" and milliseconds(1.2345) == "1234 ms"
    assert percent(0.9832) == "98.3 %"


def test_the_placement_plot_names_devices_links_and_layers(mixed: ReportData) -> None:
    found = texts(draw_placement(mixed))
    assert found.count("SIMULATED") == 3 and found.count("measured") == 1
    for term in mixed.derived.terms:
        assert f"tau = {milliseconds(term.tau_s)}" in found
    for term in mixed.derived.terms[:-1]:
        assert f"eps =\n{milliseconds(term.epsilon_s)}" in found
    assert "1  stem" in found and "12  head" in found
    assert any("25 Mbit/s" in text for text in found)
    assert f"T = {milliseconds(mixed.derived.latency_s)}, within T_const" in found[-1]


def test_a_relay_and_a_missed_deadline_are_drawn(data: ReportData) -> None:
    terms = (LatencyTerm("pi4", (), 0.0, 1e-4, 64.0), *data.derived.terms[1:-1])
    last = replace(data.derived.terms[-1], layers=tuple(range(1, 13)))
    schedule = schedule_terms((*terms, last), data.run.topology.links)
    plan = replace(
        data.derived, terms=(*terms, last), latency_s=2 * data.run.target.t_const_s, schedule=schedule
    )
    found = texts(draw_placement(replace(data, derived=plan)))
    assert "relay: no layers" in found and "ABOVE T_const" in found[-1]


def test_bars_end_at_T(data: ReportData) -> None:
    figure = draw_plan_comparison(data)
    (axes,) = figure.axes
    ends = {round(patch.get_y() + 0.3): 0.0 for patch in axes.patches}
    for patch in axes.patches:
        ends[round(patch.get_y() + 0.3)] = max(
            ends[round(patch.get_y() + 0.3)], patch.get_x() + patch.get_width()
        )
    wanted_s = [data.derived.latency_s, data.argmax.latency_s, data.run.cloud_only.latency_s]
    assert [ends[y] for y in range(3)] == pytest.approx([1e3 * seconds for seconds in wanted_s])
    assert ends[3] > ends[2]
    assert axes.get_title(loc="left").startswith("SIMULATED")


def test_a_mesh_is_drawn_with_parallel_branches(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    mesh = read_report_data(workspace, write_mesh_run(workspace, "tree"))
    found = texts(draw_placement(mesh))
    assert all(f"{name} (MBS)" in found for name in ("mbs1", "mbs2", "mbs3"))
    # One arrow to the root, one to and one from each child.
    assert sum(text.startswith("eps =") for text in found) == 7
    (axes,) = draw_plan_comparison(mesh).axes
    own = [patch for patch in axes.patches if patch.get_y() < 0.4]
    assert max(patch.get_x() + patch.get_width() for patch in own) == pytest.approx(
        1e3 * mesh.derived.latency_s
    )
    lanes = {round(patch.get_y(), 3) for patch in own if patch.get_height() < 0.5}
    assert len(lanes) == 3 and "equation (2)" in axes.get_title(loc="left")
    idle = replace(mesh.derived.terms[3], layers=(), tau_s=0.0, epsilon_s=0.0)
    terms = (*mesh.derived.terms[:3], idle, *mesh.derived.terms[4:])
    plan = replace(
        mesh.derived, terms=terms, schedule=schedule_terms(terms, mesh.run.topology.links, mesh.tree, 384)
    )
    assert "no branch" in texts(draw_placement(replace(mesh, derived=plan)))
    # Three children share one table: one panel.
    assert [axes.get_title(loc="left") for axes in draw_estimators(mesh).axes][2].startswith(
        "SIMULATED mbs1, mbs2, mbs3"
    )


def test_simulated_estimators_are_marked(mixed: ReportData) -> None:
    measured, *simulated = draw_estimators(mixed).axes
    assert measured.get_title(loc="left").startswith("pi4\nMAPE")
    assert measured.get_xlabel() == "measured, ms" and measured.lines[1].get_color() == MEASURED_COLOUR
    for axes in simulated:
        assert axes.get_title(loc="left").startswith("SIMULATED ")
        assert "SIMULATED" in axes.get_xlabel() and axes.lines[1].get_color() == SIMULATED_COLOUR
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    evaluation = mixed.devices[0].evaluation
    assert evaluation and len(measured.lines[1].get_xdata()) == evaluation.rows


def test_published_devices_are_marked_and_dotted(data: ReportData) -> None:
    first, *others = data.devices
    published = replace(data, devices=(replace(first, origin="published"), *others))
    found = texts(draw_placement(published))
    assert found.count("published") == 1 and found[-1].endswith("hatched devices; published: dotted ones)")
    panel = draw_estimators(published).axes[0]
    assert panel.get_title(loc="left").startswith("published pi4\n")
    assert panel.get_xlabel() == "published, ms" and panel.lines[1].get_color() == PUBLISHED_COLOUR
    (axes,) = draw_plan_comparison(published).axes
    assert axes.get_title(loc="left").startswith("SIMULATED, published where hatched or dotted: T of")
    assert {patch.get_hatch() for patch in axes.patches} == {"", "///", "..."}


def test_training_curves_show_every_epoch(data: ReportData) -> None:
    loss, right, expected, entropy = draw_search(data).axes
    assert list(loss.lines[0].get_ydata()) == [epoch.loss for epoch in data.epochs]
    assert right.lines[-1].get_ydata()[0] == 100 * data.run.accuracy.test
    assert expected.lines[0].get_ydata()[-1] == pytest.approx(
        data.run.expected_latency_s / data.run.target.t_const_s
    )
    assert len(entropy.lines[0].get_ydata()) == 2
    # Fig. 5 of the paper: the model that would be derived at each epoch of the search.
    then = next(line for line in right.lines if "derived then" in str(line.get_label()))
    known = [epoch.derived_accuracy for epoch in data.epochs if epoch.derived_accuracy is not None]
    assert len(known) == 1 and list(then.get_ydata()) == [100 * known[0]]


def test_split_maps() -> None:
    uint8, float32 = panels = compute_split_maps()
    for panel, encoding in ((uint8, "uint8"), (float32, "float32")):
        assert panel.relay.input_encoding == panel.strict.input_encoding == encoding
        assert panel.relay.sizes[panel.point[0]] == TABLE_I_SIZE
        assert panel.relay.rates_bps[panel.point[1]] == TABLE_I_BPS
        assert (panel.relay.best_SK <= panel.relay.cloud_SK * (1 + 1e-12)).all()
        assert (panel.strict.best_SK >= panel.relay.best_SK * (1 - 1e-12)).all()
    # The image alone, 3 x 224 x 224 numbers over 25, 50 and 200 Mbit/s: 8 x 150528 x 0.065 us = 78.27 ms.
    sent_s = 8 * 150528 * (1 / 25e6 + 1 / 50e6 + 1 / 200e6)
    cloud, cloud_float32 = (float(panel.relay.cloud_SK[panel.point]) for panel in panels)
    assert cloud > sent_s and cloud_float32 - cloud == pytest.approx(3 * sent_s)
    figure = draw_split_maps(panels)
    assert figure.get_suptitle().startswith("SIMULATED: best placement against cloud only")
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["rate of the UE's link, Mbit/s"] * 2


def test_placement_labels() -> None:
    layers_SKM = compute_split_maps()[0].relay.layers_SKM
    assert placement_label(("a", "b", "c", "d"), layers_SKM[0, 0] * 0 + [0, 0, 0, 24]) == "all on d"
    assert placement_label(("a", "b", "c", "d"), layers_SKM[0, 0] * 0 + [7, 0, 17, 0]) == "split: a + c"
