"""Spread of the measured T of the last deployment over each topology, kept in the workspace."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np

from jmsnas.errors import InputError
from jmsnas.files import read_json, write_json
from jmsnas.workspace import Workspace

_Ratio = Annotated[float, msgspec.Meta(ge=1.0, lt=1e6)]


@dataclass(frozen=True, slots=True)
class LatencySpread:
    """Ratios of the percentiles 50 to 99 of T to its median, of `requests` requests of one deployment.

    `measured_at`: the time in UTC. `loopback`: whether all agents ran on one machine.
    """

    ratios: Annotated[tuple[_Ratio, ...], msgspec.Meta(min_length=50, max_length=50)]
    requests: int
    measured_at: str
    loopback: bool

    @property
    def source(self) -> str:
        """What the spread was measured on."""
        where = "on loopback" if self.loopback else "on its devices"
        return f"the last deployment {where} ({self.requests} requests, {self.measured_at})"


@dataclass(frozen=True, slots=True)
class _Spreads:
    """Content of the file: the spread by the topology's name."""

    schema_version: Literal[1]
    topologies: dict[str, LatencySpread]


def measure_spread(latencies_s: Sequence[float], loopback: bool) -> LatencySpread:
    """Make the spread of T of the requests of a deployment that has just ended."""
    quantiles = np.quantile(latencies_s, np.arange(50, 100) / 100)
    ratios = tuple(float(ratio) for ratio in quantiles / quantiles[0])
    return LatencySpread(ratios, len(latencies_s), f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", loopback)


def keep_spread(workspace: Workspace, topology: str, spread: LatencySpread) -> None:
    """Keep the spread of a topology's last deployment, in place of the one before. Raises InputError."""
    spreads = _read(workspace) | {topology: spread}
    path = _path(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, msgspec.to_builtins(_Spreads(1, spreads)))


def read_spread(workspace: Workspace, topology: str) -> LatencySpread | None:
    """Read the spread of the last deployment over a topology; None without one. Raises InputError."""
    return _read(workspace).get(topology)


def _read(workspace: Workspace) -> dict[str, LatencySpread]:
    path = _path(workspace)
    if not path.exists():
        return {}
    return read_json(path, _Spreads, InputError, "Delete it, and run jmsnas deploy again").topologies


def _path(workspace: Workspace) -> Path:
    return workspace.folder / "calibration" / "deployments" / "spread.json"
