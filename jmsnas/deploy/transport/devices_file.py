"""Addresses and certificate fingerprints of the agents: `devices.toml` of the workspace."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmsnas.errors import DeviceError, RunError
from jmsnas.files import exclusive_lock, parse_toml, read_toml, refuse_unknown_keys, write_atomic
from jmsnas.toml_lines import with_entry
from jmsnas.workspace import check_name

_LOCK_S = 60.0
MAX_PORT = (1 << 16) - 1
PORT = re.compile(r"[0-9]{1,5}")
_HOST = re.compile(r"[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+(%[0-9A-Za-z._-]+)?\]")


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """An agent: name of its device, HOST:PORT, and fingerprint of its certificate. Raises DeviceError.

    PORT is that of its control plane, PORT + 1 that of its data plane.
    """

    name: str
    address: str
    fingerprint: str

    @property
    def data_address(self) -> str:
        """HOST:PORT of its data plane."""
        host, _, port = self.address.rpartition(":")
        return f"{host}:{int(port) + 1}"

    def __post_init__(self) -> None:
        """Check name, address and fingerprint."""
        check_name(self.name)
        host, _, port = self.address.rpartition(":")
        if not _HOST.fullmatch(host) or not PORT.fullmatch(port) or not 0 < int(port) < MAX_PORT:
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
    """Set entries of `devices.toml`; other entries, comments and line ends are kept.

    Calls at the same time run one after the other. Raises as `edited_devices_file`, StorageError, and
    RunError when another call takes longer than a minute.
    """

    def busy(holder: str) -> RunError:
        return RunError(f"another jmsnas certs (process {holder}) writes {path}: end it, or wait for it")

    with exclusive_lock(path.with_name(f".{path.name}.lock"), busy, wait_s=_LOCK_S):
        write_atomic(path, edited_devices_file(path, agents))


def edited_devices_file(path: Path, agents: Mapping[str, AgentAddress]) -> bytes:
    """Return the content of `devices.toml` with these entries set, as text, and the rest unchanged.

    Raises DeviceError for an invalid file, or one whose entries are not tables of lines.
    """
    known = read_devices_file(path)
    text = path.read_bytes().decode("utf-8-sig") if path.exists() else ""
    for agent in agents.values():
        values = {"address": agent.address, "fingerprint": agent.fingerprint}
        text = with_entry(text, "device", {"name": agent.name}, values)
    content = text.encode()
    try:
        found = devices_from_toml(parse_toml(content, path, DeviceError), path)
    except DeviceError:
        found = {}
    if found != {**known, **agents}:
        entries = "; ".join(f'name = "{a.name}", address = "{a.address}"' for a in agents.values())
        raise DeviceError(
            f"{path} has entries that cannot be edited line by line: expected each as [[device]] with a line "
            f"for name, address and fingerprint. Write it so, or set by hand: {entries}"
        )
    return content


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
