from pathlib import Path

import pytest

from jmsnas.deploy.transport.devices_file import AgentAddress, agents_for, read_devices_file
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
