"""Where things lie: the workspace folder and the fixed places inside it."""

import re
from dataclasses import dataclass
from pathlib import Path

from jmsnas.errors import DeviceError

# A name becomes part of a path: letters, digits, - and _ only, so that it can never lead elsewhere.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def check_name(name: str, what: str = "device") -> str:
    """Return `name` if it can be part of a path. Raises DeviceError."""
    if not _NAME.fullmatch(name):
        raise DeviceError(
            f"{what} name {name!r} must be 1 to 64 of a-z, 0-9, - and _, beginning with a letter or digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder that holds tables, estimators, runs and the user's own topologies and spaces."""

    folder: Path

    def table(self, device: str) -> Path:
        """Latency table of a device: `tables/<device>.parquet`."""
        return self.folder / "tables" / f"{check_name(device)}.parquet"

    @property
    def tables(self) -> tuple[str, ...]:
        """Devices that have a table here."""
        return tuple(sorted(path.stem for path in (self.folder / "tables").glob("*.parquet")))

    def estimator(self, device: str, label: str) -> Path:
        """Folder of U(.) of a device and a key's label: `estimators/<device>/onnxruntime-t1-b1-f32`."""
        return self.folder / "estimators" / check_name(device) / check_name(label, "key")

    def run(self, name: str) -> Path:
        """Folder of a search run: `runs/<name>`."""
        return self.folder / "runs" / check_name(name, "run")

    @property
    def topologies(self) -> Path:
        """Folder of the user's own topology files."""
        return self.folder / "topologies"

    @property
    def spaces(self) -> Path:
        """Folder of the user's own space files."""
        return self.folder / "spaces"

    @property
    def certs(self) -> Path:
        """Folder of the CA and of the certificates it gave."""
        return self.folder / "certs"

    @property
    def devices_file(self) -> Path:
        """The user's own devices: names, addresses of agents, fingerprints."""
        return self.folder / "devices.toml"
