from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from deployments import Fleet, fleet, write_devices
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.deploy.collect_topology import collect_topology
from jmsnas.deploy.leader import measure_topology
from jmsnas.device import Device
from jmsnas.errors import DeployError, JmsnasError
from jmsnas.topology import load_topology
from jmsnas.workspace import Workspace

NAMES = ("pi4", "laptop", "cloud")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three agents in a chain; devices.toml and the leader's keys are in the folder, a workspace."""
    with fleet(tmp_path_factory.mktemp("lab"), NAMES) as found:
        write_devices(Workspace(found.folder), found)
        yield found


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_topology, "_ROUNDS", 3)


def collect(workspace: Path, *args: str) -> tuple[int, str, str]:
    arguments = ["topology", "collect", *args, "--workspace", str(workspace)]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return done.exit_code, done.stdout, done.stderr


def test_a_chain_is_measured_and_written_then_refreshed(three: Fleet) -> None:
    code, out, err = collect(three.folder, "lab")
    assert code == 0 and "of other hosts" not in err
    assert "Topology lab: chain, policy strict" in out and "Next: jmsnas profile --topology lab" in out
    path = three.folder / "topologies" / "lab.toml"
    assert path.with_suffix(".svg").exists()
    first = load_topology("lab", path.parent)
    assert first.main_path == NAMES and not first.root
    for device in first.devices:
        assert device.measured and device.measured.fingerprint == three.leader.agents[device.name].fingerprint
        assert (
            device.measured.cores > 0 and device.measured.memory_bytes > 1e8 and not device.measured.emulates
        )
        assert device.measured.versions["onnxruntime"] and 0 <= device.call_s < 1
    for link in first.links:
        own = link.measured
        assert own and own.sizes == measure_topology.SIZES and own.round_trip_s > 0
        assert own.rate_interval_bps[0] <= own.rate_interval_bps[1] and own.loaded_rate_bps
        # On loopback, within any load of this machine: above 1 Mbit/s, below 10 s.
        assert link.capacity_bps > 1e6 and own.back_rate_bps and own.back_rate_bps > 1e6
        assert all(0 < median_s < 10 for median_s in own.medians_s)
    mine = path.read_text().replace('policy = "strict"', 'policy = "relay"').replace(
        'name = "laptop"\n', 'name = "laptop"\nrole = "SBS" # the desk\n'
    )  # fmt: skip
    path.write_text(mine)
    code, _, _ = collect(three.folder, "lab")
    second = load_topology("lab", path.parent)
    assert code == 0 and second.policy == "relay" and second.device("laptop").role == "SBS"
    assert "# the desk\n" in path.read_text()
    assert [link.capacity_bps for link in second.links] != [link.capacity_bps for link in first.links]


def test_a_written_mesh_is_measured_as_it_is(three: Fleet) -> None:
    workspace = Workspace(three.folder)
    topology, path = collect_topology(workspace, "fan", ("pi4", ("laptop",)))
    assert (topology.root, topology.children) == ("pi4", ("laptop",))
    assert load_topology("fan", workspace.topologies) == load_topology(str(path))
    assert [(link.source, link.target) for link in topology.links] == [("pi4", "laptop"), ("laptop", "cloud")]
    for tree, shape in ((("pi4", ("cloud",)), "pi4=cloud"),):
        with pytest.raises(
            JmsnasError, match=f"has the tree pi4=laptop, got --tree {shape}: change the file"
        ):
            collect_topology(workspace, "fan", tree)
    # A file of two of the three: the third is named.
    path.write_text(
        'name = "two"\n[[device]]\nname = "pi4"\n[[device]]\nname = "cloud"\n'
        '[[link]]\nfrom = "pi4"\nto = "cloud"\nrate = "1Mbit/s" # a guess\n'
    )
    warned: list[str] = []
    topology, _ = collect_topology(workspace, "fan", warn=warned.append)
    assert warned == [f"not in {path}, so not measured: laptop"] and topology.M == 2
    assert "# a guess" in path.read_text() and topology.links[0].capacity_bps != 1e6


def test_calls_of_an_emulated_device_cost_nothing_more(three: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = three.agents["cloud"]
    monkeypatch.setattr(agent, "settings", replace(agent.settings, emulate="jetson"))
    devices = [Device(name, name, "") for name in NAMES]
    *others, cloud = measure_topology.measured_devices(three.leader, devices, "2026-11-30T17:45:00Z")
    assert cloud.call_s == 0 and cloud.measured and cloud.measured.emulates == "jetson"
    assert all(device.measured and not device.measured.emulates for device in others)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chain",), "chain is a built-in topology: collect under another name, as in lab"),
        (("../x",), "topology name '../x' must be 1 to 64 of a-z"),
        (("new", "--tree", "pi4=mbs1,cloud"), "has no mbs1, expected some of pi4, laptop, cloud"),
        (("new", "--tree", "pi4=laptop,laptop"), "--tree pi4=laptop,laptop: expected each device once"),
        (("new", "--tree", "pi4=pi4"), "--tree pi4=pi4: expected each device once"),
        (("new", "--tree", "pi4"), "--tree pi4: expected ROOT=CHILD,CHILD, as in laptop=mbs1,mbs2"),
        (("new", "--tree", "pi4=laptop,"), "--tree pi4=laptop,: expected ROOT=CHILD,CHILD"),
        (("new", "--tree", "laptop=cloud"), "topology new needs a device after its tree"),
    ],
)
def test_what_cannot_be_collected_is_one_line(three: Fleet, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = collect(three.folder, *arguments)
    assert code == 2 and not out and message in err and err.count("\n") == 1
    assert not (three.folder / "topologies" / "new.toml").exists()


def test_no_devices(tmp_path: Path) -> None:
    code, _, err = collect(tmp_path, "lab")
    assert code == 2 and err == (
        f"jmsnas: {tmp_path}/devices.toml has no devices: run jmsnas certs --address NAME=HOST:PORT for "
        "each, and start jmsnas-agent there\n"
    )


def test_a_device_of_the_file_without_an_agent(three: Fleet) -> None:
    path = three.folder / "topologies" / "board.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text('name = "board"\n[[device]]\nname = "board"\n')
    code, _, err = collect(three.folder, "board")
    assert code == 2 and "has no agent of board. Start jmsnas agent there" in err


def test_lost_links_and_agents_are_named_and_the_file_is_kept(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with fleet(tmp_path, ("pi4", "cloud")) as two:
        write_devices(workspace, two)
        _, path = collect_topology(workspace, "lab")
        before = path.read_bytes()
        # The leader reaches the control port of cloud, pi4 does not reach its data port.
        two.agents["cloud"].data.stop()
        with pytest.raises(DeployError, match="^the link pi4 -> cloud cannot be measured: device cloud: "):
            collect_topology(workspace, "lab")
        assert path.read_bytes() == before
        # Where only the way back is lost, the link is measured.
        back = path.with_name("back.toml")
        back.write_text(
            'name = "back"\n[[device]]\nname = "cloud"\n[[device]]\nname = "pi4"\n'
            '[[link]]\nfrom = "cloud"\nto = "pi4"\nrate = "1Mbit/s"\n'
        )
        warned: list[str] = []
        (link,) = collect_topology(workspace, "back", warn=warned.append)[0].links
        assert warned[0].startswith("the link pi4 -> cloud cannot be measured: device cloud: ")
        assert warned[0].endswith("Without it cloud -> pi4 has no back_rate")
        assert link.measured and link.measured.back_rate_bps is None and link.measured.loaded_rate_bps
        addresses = {name: agent.address for name, agent in two.leader.agents.items()}
    code, _, err = collect(tmp_path, "lab")
    assert code == 1 and err.count("\n") == 1
    assert f"no answer of pi4 ({addresses['pi4']}), cloud ({addresses['cloud']}): start jmsnas-agent" in err
    assert path.read_bytes() == before
