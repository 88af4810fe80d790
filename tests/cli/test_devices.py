import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deployments import fleet
from synthetic_published import a_record, records, write_published
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.cli.devices import describe_devices
from jmsnas.deploy.transport.devices_file import AgentAddress, write_devices_file
from jmsnas.estimators.fit_tables import fit_tables
from jmsnas.profiler.simulation.roofline import simulated_device_names, simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import write_table
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

BLOCKS = load_space("digits").blocks()[:4]
NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """`pi4` simulated, `local` and `board` measured (a quarter unconverged, half green), `jetson` broken."""
    workspace = Workspace(tmp_path)
    simulated = simulated_table("pi4", BLOCKS, [RuntimeKey(), RuntimeKey("torch")])
    write_table(workspace.table("pi4"), simulated)
    for name in ("local", "board"):
        rows = [
            replace(
                row, device=name, kind="measured", converged=i > 0, ratio_high=row.ratio * 1.01,
                ratio_low=row.ratio * (0.98 if i == 0 else 0.99), trust="green" if i % 2 else "yellow",
                samples=(row.ratio, row.ratio * (1 + i / 100)), process_rounds=(1, 1),
                measured_at=f"2026-11-2{i + 1}T00:00:00+00:00",
            )
            for i, row in enumerate(simulated.for_key(RuntimeKey()).rows)
        ]  # fmt: skip
        write_table(workspace.table(name), LatencyTable(name, tuple(rows), {}))
    workspace.table("jetson").write_text("broken")
    return workspace


def test_every_device_with_what_is_known_of_it(workspace: Workspace) -> None:
    devices = {device["device"]: device for device in describe_devices(workspace, NOW)["devices"]}
    assert list(devices) == ["local", *simulated_device_names(), "board"]
    kinds = {name: device["kind"] for name, device in devices.items()}
    assert kinds["local"] == kinds["board"] == "measured" and kinds["pi4"] == "simulated"
    assert kinds["jetson"] == "unreadable" and kinds["cloud"] == "not profiled"
    assert "not a Parquet file" in devices["jetson"]["problem"] and devices["cloud"]["keys"] == []
    (key,) = devices["board"]["keys"]
    # The oldest row is of 21 November, ten days before; one of four rows did not converge.
    assert (key["key"], key["rows"], key["measured"]) == ("onnxruntime-t1-b1-f32", 4, 4)
    assert key["age_days"] == pytest.approx(10) and key["converged"] == 0.75
    assert key["half_width"] == pytest.approx(0.01)
    # Two of four are green; another process found the rows 0, 1, 2, 3 % apart: (log 1.01 + log 1.02) / 2.
    assert key["green"] == 0.5 and key["noise_floor"] == pytest.approx(0.014876, rel=1e-4)
    for what in ("converged", "half_width", "green", "noise_floor"):
        assert [key[what] for key in devices["pi4"]["keys"]] == [None, None]
    assert devices["local"]["this_host"] and not devices["board"]["this_host"]


def test_host_is_at_least_local(workspace: Workspace) -> None:
    host = describe_devices(workspace, NOW)["host"]
    assert host["is"][0] == "local" and host["cores"] >= 1


@pytest.mark.parametrize(
    ("measured_at", "age_days"),
    [("2026-11-30", 1.0), ("2026-11-30T12:00:00+00:00", 0.5), ("2030-01-01", 0.0), ("long ago", None)],
)
def test_age(tmp_path: Path, measured_at: str, age_days: float | None) -> None:
    table = simulated_table("pi4", BLOCKS[:1], [RuntimeKey()])
    rows = tuple(replace(row, measured_at=measured_at) for row in table.rows)
    write_table(Workspace(tmp_path).table("pi4"), LatencyTable("pi4", rows, {}))
    devices = describe_devices(Workspace(tmp_path), NOW)["devices"]
    (key,) = next(device["keys"] for device in devices if device["device"] == "pi4")
    assert key["age_days"] == age_days


def test_mixed_and_empty_tables(workspace: Workspace) -> None:
    measured = [
        replace(row, device="pi4", kind="measured")
        for row in simulated_table("pi4", BLOCKS, [RuntimeKey()]).rows
    ]
    write_table(
        workspace.table("pi4"),
        LatencyTable("pi4", (*measured[1:], replace(measured[0], kind="simulated")), {}),
    )
    write_table(workspace.table("cloud"), LatencyTable("cloud", (), {}))
    kinds = {device["device"]: device["kind"] for device in describe_devices(workspace, NOW)["devices"]}
    assert (kinds["pi4"], kinds["cloud"]) == ("mixed", "not profiled")


def test_printed(workspace: Workspace) -> None:
    found = CliRunner().invoke(app, ["devices", "--workspace", str(workspace.folder)])
    assert found.exit_code == 0 and found.stderr == ""
    assert found.stdout.startswith("This host: ")
    assert "\nlocal         measured  (this host)\n  onnxruntime-t1-b1-f32       4 rows  age " in found.stdout
    assert " 75% within 1 %, CI half-width 1.00%, noise floor 1.49%, 50% green\n" in found.stdout
    assert "\npi4           SIMULATED\n" in found.stdout and "from published figures" in found.stdout
    assert (
        "\njetson        unreadable\n  " in found.stdout and "\ncloud         not profiled\n" in found.stdout
    )


def test_json_is_one_document(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["devices", "--json", "--workspace", str(tmp_path / "none")])
    document = json.loads(found.stdout)
    assert found.exit_code == 0 and {device["kind"] for device in document["devices"]} == {"not profiled"}
    assert not (tmp_path / "none").exists(), "looking makes nothing"


def test_published_tables_are_devices_too(workspace: Workspace) -> None:
    names = {"device": "board", "processor": None}
    rows = [*records(9), *records(9, **names), a_record(source="b", device="pi4", processor=None)]
    rows += records(9, device="pi4", processor=None, source="a")
    fit_tables(
        workspace,
        tables=[write_published(workspace.folder / "p.parquet", rows)],
        force=True,
        warn=lambda text: None,
    )
    devices = {device["device"]: device for device in describe_devices(workspace, NOW)["devices"]}
    (key,) = devices["some-board-cpu-2-threads"]["published"]
    assert devices["some-board-cpu-2-threads"]["kind"] == "published"
    assert (key["key"], key["rows"], key["overruled"]) == ("onnxruntime-t2-b1-f32", 9, False)
    # Before what is simulated, and behind what was measured here.
    assert devices["pi4"]["kind"] == "published" and devices["board"]["kind"] == "measured"
    assert devices["pi4"]["published"][0]["sources"] == ["a", "b"]
    assert devices["board"]["published"][0]["overruled"]
    out = CliRunner().invoke(app, ["devices", "--workspace", str(workspace.folder)]).stdout
    assert (
        "\nsome-board-cpu-2-threads  published\n  onnxruntime-t2-b1-f32       9 rows  Some board, CPU" in out
    )
    assert "TensorFlow Lite; from somebody/something@1234567 table\n" in out
    assert " rows  pi4, TensorFlow Lite; from a and 1 more\n" in out
    assert "from somebody/something@1234567 table, not used: the device has a table here\n" in out


def test_a_published_table_that_is_damaged_is_left_out(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (fitted,) = fit_tables(workspace, tables=[write_published(tmp_path / "p.parquet", records(9))])
    (fitted.folder / "table.parquet").write_text("broken")
    assert len(describe_devices(workspace, NOW)["devices"]) == 1 + len(simulated_device_names())


def test_agents_of_devices_toml_are_reported(tmp_path: Path) -> None:
    with fleet(tmp_path, ("pi4",)) as one:
        agent = one.leader.agents["pi4"]
        dead = AgentAddress("jetson", "127.0.0.1:1", agent.fingerprint)
        write_devices_file(tmp_path / "devices.toml", {"pi4": agent, "jetson": dead})
        found = CliRunner().invoke(app, ["devices", "--workspace", str(tmp_path)])
    assert found.exit_code == 0 and "agent of pi4: onnxruntime " in found.stdout
    assert "agent of jetson: not usable: 127.0.0.1:1: Connection refused" in found.stdout
