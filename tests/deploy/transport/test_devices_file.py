import multiprocessing
from pathlib import Path

import pytest

from jmsnas.deploy.transport.devices_file import (
    AgentAddress,
    agents_for,
    read_devices_file,
    write_devices_file,
)
from jmsnas.errors import DeviceError

ENTRY = '[[device]]\nname = "{}"\naddress = "{}"\nfingerprint = "{}"\n'
PIN = "ab" * 32


def test_devices_are_read(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    assert read_devices_file(path) == {}
    path.write_text(ENTRY.format("pi4", "10.0.0.2:7070", PIN) + ENTRY.format("jetson", "[::1]:7070", PIN))
    assert read_devices_file(path)["jetson"] == AgentAddress("jetson", "[::1]:7070", PIN)
    assert list(agents_for(("pi4",), path)) == ["pi4"]
    with pytest.raises(DeviceError, match="has no agent of cloud. Start jmsnas agent there"):
        agents_for(("pi4", "cloud"), path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.format("pi4", "10.0.0.2", PIN), "expected HOST:PORT"),
        (ENTRY.format("pi4", "10.0.0.2:99999", PIN), "expected HOST:PORT"),
        (ENTRY.format("pi4", "10.0.0.2:65535", PIN), "expected HOST:PORT"),  # none is above it
        (ENTRY.format("pi4", "10.0.0.2:\u00b2", PIN), "expected HOST:PORT"),
        (ENTRY.format("pi4", "10.0.0.2:7070", "abc"), "expected the 64 hexadecimal digits"),
        (ENTRY.format("../pi4", "10.0.0.2:7070", PIN), "must be 1 to 64 of a-z"),
        (ENTRY.format("pi4", "h:1", PIN) * 2, "names a device twice: expected each of pi4 once"),
        ('[[device]]\nname = "pi4"\n', "has a .*device.* without 'address'"),
        ("device = 3", "has an invalid device"),
        ('[[device]]\nurl = "x"\n', "has unknown keys url"),
        ("[[device", "is not a TOML file"),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(text)
    with pytest.raises(DeviceError, match=message):
        read_devices_file(path)


COMMENTED = f"""# Our lab.
[[device]]
name = "pi4"  # on the desk
address = '10.0.0.2:7070'    # by DHCP
fingerprint = "{PIN}"

# Not here yet: cloud
[[device]]
fingerprint = "{PIN}"
address = "10.0.0.3:7070"
name = "jetson-cpu"
# The end
"""


def test_an_entry_is_set_and_all_else_kept(tmp_path: Path) -> None:
    path, other = tmp_path / "devices.toml", "cd" * 32
    path.write_text(COMMENTED)
    write_devices_file(path, {"jetson-cpu": AgentAddress("jetson-cpu", "h:1", other)})
    assert path.read_text() == COMMENTED.replace("10.0.0.3:7070", "h:1").replace(
        f'fingerprint = "{PIN}"\naddress', f'fingerprint = "{other}"\naddress'
    )
    changed = path.read_text()
    write_devices_file(
        path, {"pi4": AgentAddress("pi4", "h:2", PIN), "cloud": AgentAddress("cloud", "h:3", PIN)}
    )
    new = ENTRY.format("cloud", "h:3", PIN)
    assert path.read_text() == changed.replace("'10.0.0.2:7070'", '"h:2"') + "\n" + new
    path.write_bytes(COMMENTED.replace("\n", "\r\n").encode())
    write_devices_file(path, {"pi4": AgentAddress("pi4", "h:2", PIN)})
    assert b'"h:2"    # by DHCP\r\n' in path.read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        f'device = [{{name = "pi4", address = "h:1", fingerprint = "{PIN}"}}]\n',
        f'[[device]]\n"name" = "pi4"\naddress = "h:1"\nfingerprint = "{PIN}"\n',
        f'[[device]]\nname = "pi4"\n"address" = "h:1"\nfingerprint = "{PIN}"\n',
        f'[[device]]\nname = "pi4"\naddress = """h:1"""\nfingerprint = "{PIN}"\n',
    ],
)
def test_an_entry_that_cannot_be_edited_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(text)
    assert read_devices_file(path)["pi4"].address == "h:1"
    with pytest.raises(
        DeviceError, match='cannot be edited line by line.*by hand: name = "pi4", address = "h:2"'
    ):
        write_devices_file(path, {"pi4": AgentAddress("pi4", "h:2", PIN)})
    assert path.read_text() == text


def test_no_entry_is_lost_by_calls_at_once(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    names = [f"board-{number}" for number in range(8)]
    with multiprocessing.get_context("fork").Pool(len(names)) as pool:
        pool.starmap(write_devices_file, [(path, {name: AgentAddress(name, "h:1", PIN)}) for name in names])
    assert sorted(read_devices_file(path)) == names
