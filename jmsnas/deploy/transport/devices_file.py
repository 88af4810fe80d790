"""Addresses and certificate fingerprints of the agents: `devices.toml` of the workspace."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmsnas.errors import DeviceError
from jmsnas.files import read_toml, refuse_unknown_keys, write_atomic
from jmsnas.workspace import check_name

_PORT = re.compile(r"[0-9]{1,5}")
_HOST = re.compile(r"[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+(%[0-9A-Za-z._-]+)?\]")


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """An agent: name of its device, HOST:PORT, and fingerprint of its certificate. Raises DeviceError."""

    name: str
    address: str
    fingerprint: str

    def __post_init__(self) -> None:
        """Check name, address and fingerprint."""
        check_name(self.name)
        host, _, port = self.address.rpartition(":")
        if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or not 0 < int(port) < 1 << 16:
            raise DeviceError(
                f"device {self.name} has address {self.address!r}: expected HOST:PORT, as in "
                "192.168.1.20:7070"
            )
        if len(self.fingerprint) != 64 or not set(self.fingerprint) <= set("0123456789abcdef"):
            raise DeviceError(
                f"device {self.name} has fingerprint {self.fingerprint[:70]!r}: expected the 64 hexadecimal "
                "digits that jmsnas certs printed"
            )


def read_devices_file(path: Path) -> dict[str, AgentAddress]:
    """Read `devices.toml`; empty where it does not exist. Raises DeviceError."""
    if not path.exists():
        return {}
    return devices_from_toml(read_toml(path, DeviceError), path)


def write_devices_file(path: Path, agents: Mapping[str, AgentAddress]) -> None:
    """Write `devices.toml` atomically. Raises StorageError."""
    entries = [
        "[[device]]\n" + "".join(f'{key} = "{getattr(agent, key)}"\n' for key in AgentAddress.__slots__)
        for agent in agents.values()
    ]
    write_atomic(path, "\n".join(entries).encode())


def devices_from_toml(table: Mapping[str, Any], path: Path) -> dict[str, AgentAddress]:
    """Check the content of a `devices.toml`; `path` is for messages. Raises DeviceError."""
    refuse_unknown_keys(table, ("device",), str(path), DeviceError)
    entries = table.get("device", [])
    if not isinstance(entries, list):
        raise DeviceError(f"{path} has an invalid device: expected one [[device]] for each agent")
    found = [_address(entry, path) for entry in entries]
    names = [address.name for address in found]
    if len(set(names)) < len(names):
        raise DeviceError(
            f"{path} names a device twice: expected each of {', '.join(sorted(set(names)))} once"
        )
    return {address.name: address for address in found}


def agents_for(names: tuple[str, ...], path: Path) -> dict[str, AgentAddress]:
    """Return the agents of these devices. Raises DeviceError with the names that `devices.toml` lacks."""
    fleet = read_devices_file(path)
    missing = [name for name in names if name not in fleet]
    if missing:
        raise DeviceError(
            f"{path} has no agent of {', '.join(missing)}. Start jmsnas agent there and add its address and "
            "fingerprint, or try all of it on this machine: jmsnas deploy RUN --loopback"
        )
    return {name: fleet[name] for name in names}


def _address(entry: Mapping[str, Any], path: Path) -> AgentAddress:
    refuse_unknown_keys(entry, AgentAddress.__slots__, f"{path} [[device]]", DeviceError)
    try:
        return AgentAddress(*(str(entry[name]) for name in AgentAddress.__slots__))
    except KeyError as error:
        raise DeviceError(f"{path} has a [[device]] without {error}: see jmsnas certs") from error
