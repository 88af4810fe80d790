import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jmsnas.cli import app


def command(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["topology", *args], env={"COLUMNS": "200"})
    return done.exit_code, done.stdout, done.stderr


LAB = """name = "lab"
[[device]]
name = "pi4"
call = "52us"
[device.measured]
at = "2020-01-01T00:00:00Z"
fingerprint = "FF"
processor = "Cortex-A72"
cores = 4
memory = "8GB"
emulates = "jetson"
versions = { onnxruntime = "1.24.0" }
[[device]]
name = "cloud"
[[link]]
from = "pi4"
to = "cloud"
rate = "25Mbit/s"
delay = "0.4ms"
[link.measured]
at = "2020-01-01T00:00:00Z"
rate_interval = ["24Mbit/s", "26Mbit/s"]
delay_interval = ["0.3ms", "0.5ms"]
round_trip = "0.9ms"
sizes = [256, 4096]
medians = ["0.5ms", "1.7ms"]
loaded_rate = "21Mbit/s"
back_rate = "23Mbit/s"
back_delay = "0.5ms"
"""


def test_a_topology_of_the_workspace_is_shown_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "topologies" / "lab.toml"
    file.parent.mkdir()
    file.write_text(LAB)
    code, out, err = command("show", "lab", "--workspace", str(tmp_path))
    assert code == 0 and out.startswith("Topology lab: chain, policy strict, input uint8\n")
    pi4, link = (
        next(line for line in out.splitlines() if line.startswith(name)) for name in ("pi4 ", "pi4 ->")
    )
    for cell in ("Cortex-A72", " 4 ", "8 GB", "1.24.0", "52 us", "not profiled", "EMULATED: jetson, "):
        assert cell in pi4
    for cell in (" 25 ", "24 to 26", " 23 ", " 21 ", "400 us", "900 us", "measured, "):
        assert cell in link
    assert "figures of pi4, pi4 -> cloud are up to " in err and "jmsnas topology collect" in err
    picture = file.with_suffix(".svg")
    assert f"Picture: {picture}" in out and b"<svg" in picture.read_bytes()
    # The same by the path of the file, as one document.
    code, out, _ = command("show", str(file), "--json", "--workspace", str(tmp_path))
    document = json.loads(out)
    assert code == 0 and [device["origin"] for device in document["devices"]] == ["EMULATED: jetson", "given"]
    assert (
        document["links"][0]["measured"]["loaded_rate_bps"] == 21e6 and document["links"][0]["age_days"] > 30
    )


def test_a_built_in_topology_is_given_and_drawn_in_the_workspace(tmp_path: Path) -> None:
    code, out, err = command("show", "mesh", "--workspace", str(tmp_path))
    assert code == 0 and err == "" and "tree laptop = mbs1, mbs2, mbs3" in out
    assert "No figure was measured: rates, delays and calls are as given in the file." in out
    assert (tmp_path / "topologies" / "mesh.svg").exists()


@pytest.mark.parametrize("arguments", [("show", "star"), ("show", "star", "--json")])
def test_an_unknown_topology_is_one_line_with_the_names_of_the_workspace(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "topologies").mkdir()
    (tmp_path / "topologies" / "lab.toml").write_text(LAB)
    code, _, err = command(*arguments, "--workspace", str(tmp_path))
    assert code == 2 and err == (
        "jmsnas: unknown topology 'star': expected one of chain, desk, mesh, lab, or a file ending in .toml\n"
    )
