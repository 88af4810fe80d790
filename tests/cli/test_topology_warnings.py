from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.cli.topology_warnings import figure_warnings, line_error, warn_of_lines
from jmsnas.files import preset_path
from jmsnas.toml_lines import with_subtable
from jmsnas.topology import Link, load_topology
from jmsnas.topology_figures import DeviceFigures, LinkFigures
from jmsnas.workspace import Workspace

NOW = datetime(2026, 12, 31, tzinfo=UTC)
PIN = "ab" * 32


def figures(at: str) -> LinkFigures:
    return LinkFigures(at, (1e6, 1e6), (0.0, 0.0), 0.0, (256, 4096), (2e-3, 33e-3))


def test_old_figures_and_those_of_other_hosts_are_named() -> None:
    pi4, laptop, *_ = load_topology("chain").devices
    new, old = "2026-12-30T00:00:00Z", "2026-11-01T00:00:00Z"
    devices = [
        replace(pi4, measured=DeviceFigures(new, PIN)),
        replace(laptop, measured=DeviceFigures(old, PIN)),
    ]
    links = [Link("pi4", "laptop", 1e6, measured=figures(old)), Link("laptop", "jetson", 1e6)]
    aged, other = figure_warnings(devices, links, {"pi4": "cd" * 32, "laptop": PIN}, NOW)
    assert aged == (
        "figures of laptop, pi4 -> laptop are up to 60 days old (expected at most 30). To measure again: "
        "jmsnas topology collect NAME"
    )
    assert other.startswith("figures of pi4 are of other hosts: the certificate in devices.toml is not that ")
    # Without an entry in devices.toml there is nothing to compare with; given figures have no age.
    assert figure_warnings(devices[:1], [], {}, NOW) == []
    assert figure_warnings([pi4, laptop], links[1:], {"pi4": PIN}, NOW) == []


def test_a_line_that_misses_the_measured_times_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    # At 1 Mbit/s, 256 bytes take 2.048 ms and 4096 bytes 32.768 ms.
    link = Link("pi4", "laptop", 1e6, measured=figures("2026-12-30"))
    assert line_error(link) == pytest.approx(0.024) and line_error(Link("a", "b", 1e6)) == 0
    warn_of_lines([link, Link("laptop", "cloud", 1e6)])
    assert capsys.readouterr().err == ""
    own = replace(figures("2026-12-30"), medians_s=(1e-3, 33e-3))
    warn_of_lines([replace(link, measured=own)])
    assert capsys.readouterr().err.startswith(
        "delay + 8 b / rate of pi4 -> laptop differs by up to 105% from "
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("search", "--t-const", "1us"), "T_const"),
        (("split", "--costs", "none.csv"), "cannot read none.csv"),
    ],
)
def test_commands_warn_of_old_figures_before_they_use_them(
    simulated_workspace: Workspace, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    path, own = tmp_path / "old.toml", {"at": "2020-01-01T00:00:00Z", "fingerprint": PIN}
    text = preset_path("topologies", "chain").read_text()
    path.write_text(with_subtable(text, "device", {"name": "laptop"}, "measured", own))
    arguments = [*words, "--topology", str(path), "--workspace", str(simulated_workspace.folder)]
    done = CliRunner().invoke(app, arguments)
    *before, last = done.stderr.splitlines()
    assert done.exit_code == 2 and message in last
    assert any(line.startswith("figures of laptop are up to ") for line in before)
