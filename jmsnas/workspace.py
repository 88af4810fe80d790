"""Paths of a workspace folder: latency tables, estimators, runs, topologies, spaces and certificates."""

import re
from dataclasses import dataclass
from pathlib import Path

from jmsnas.errors import DeviceError

# A name becomes part of a path: letters, digits, - and _ only, so that it cannot leave the workspace.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def check_name(name: str, what: str = "device") -> str:
    """Return `name` if it is a valid name of a file or folder. Raises DeviceError."""
    if not _NAME.fullmatch(name):
        raise DeviceError(
            f"{what} name {name!r} must be 1 to 64 of a-z, 0-9, - and _, and start with a letter or digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of tables, estimators, runs, and the user's topologies and spaces."""

    folder: Path

    def table(self, device: str) -> Path:
        """Return the path of a device's latency table: `tables/<device>.parquet`."""
        return self.folder / "tables" / f"{check_name(device)}.parquet"

    @property
    def tables(self) -> tuple[str, ...]:
        """Devices that have a latency table."""
        return tuple(sorted(path.stem for path in (self.folder / "tables").glob("*.parquet")))

    def estimator(self, device: str, label: str) -> Path:
        """Return the folder of U(.) of a device and key: `estimators/<device>/onnxruntime-t1-b1-f32`."""
        return self.folder / "estimators" / check_name(device) / check_name(label, "key")

    def run(self, name: str) -> Path:
        """Return the folder of a search run: `runs/<name>`."""
        return self.folder / "runs" / check_name(name, "run")

    @property
    def topologies(self) -> Path:
        """Folder of the user's topology files."""
        return self.folder / "topologies"

    @property
    def spaces(self) -> Path:
        """Folder of the user's search space files."""
        return self.folder / "spaces"

    @property
    def certs(self) -> Path:
        """Folder of the CA and the certificates it issued."""
        return self.folder / "certs"

    @property
    def devices_file(self) -> Path:
        """The user's devices: names, agent addresses, certificate fingerprints."""
        return self.folder / "devices.toml"
