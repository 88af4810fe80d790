from dataclasses import replace
from pathlib import Path

import pytest

from jmsnas.device import Device
from jmsnas.errors import TopologyError
from jmsnas.topology import Link, Topology, load_topology
from jmsnas.topology_figures import DeviceFigures, LinkFigures
from jmsnas.topology_file import topology_content

FIGURES = LinkFigures("2026-11-30T17:45:00Z", (24e6, 60e6), (0.0, 1e-3), 1e-3, (256, 4096), (1e-3, 2e-3))


def topology(name: str = "lab") -> Topology:
    own = DeviceFigures("2026-11-30T17:45:00Z", "ab" * 32, 'CPU "x" \\ y', versions={"numpy": "2"})
    devices = tuple(
        Device(device, device, "", call_s=5e-5, measured=own) for device in ("pi4", "m", "n", "cloud")
    )
    pairs = (("pi4", "m"), ("pi4", "n"), ("m", "cloud"), ("n", "cloud"))
    return Topology(
        name, devices, tuple(Link(*pair, 25e6, 5e-4, measured=FIGURES) for pair in pairs), "pi4", ("m", "n")
    )


def test_a_new_file_is_read_as_the_topology(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_bytes(topology_content(topology(), path))
    found = load_topology(str(path))
    assert found == topology()
    assert found.devices[0].measured == topology().devices[0].measured
    assert path.read_text().startswith(
        "# Rates, delays and calls are measured by: jmsnas topology collect lab\n"
    )


def test_figures_are_set_again_and_all_else_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    first = topology_content(topology(), path).decode()
    mine = (
        first.replace('policy = "strict"', 'policy = "relay"')
        .replace('name = "m"\n', 'name = "m" # on the mast\nmemory = "64MB"\nrole = "MBS"\n')
        .replace('to = "n"\nrate', 'to = "n"\nwire = "float16" # half\nrate')
        + "# The end\n"
    )
    path.write_text(mine)
    given = load_topology(str(path))
    assert topology_content(given, path).decode() == mine
    faster = tuple(replace(link, capacity_bps=50e6) for link in given.links)
    assert topology_content(replace(given, links=faster), path).decode() == mine.replace(
        'rate = "25Mbit/s"', 'rate = "50Mbit/s"'
    )


@pytest.mark.parametrize(
    "text",
    [
        'name = "lab"\ndevice = [{name = "pi4"}, {name = "m"}, {name = "n"}, {name = "cloud"}]\n',
        'name = "lab"\n[[device]]\n"name" = "pi4"\n',
        'name = "lab"\n[[device]]\nname = "cloud"\n',
    ],
)
def test_a_file_written_otherwise_or_of_other_devices_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(text)
    with pytest.raises(
        TopologyError, match="cannot be edited line by line: expected each device and link as"
    ):
        topology_content(topology(), path)
    assert path.read_text() == text
