"""Result of a finished search: `result.json` as one frozen record, checked as it is read."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from jmsnas.errors import InputError
from jmsnas.files import parse_json
from jmsnas.nas.derivation.target import BandStatus, LatencyTarget
from jmsnas.nas.latency.alternatives import SplitAlternatives
from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.origin import ORIGINS
from jmsnas.space import Block, SearchSpace
from jmsnas.space_file import load_space
from jmsnas.topology import Topology
from jmsnas.units import format_duration as ms
from jmsnas.workspace import Workspace

# 2: `topology` (before: `network`) has every field of a topology; `estimators`, the origin of each U(.).
SCHEMA_VERSION = 2
SEARCH_AGAIN = "Run the search again: jmsnas search --topology chain"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SpaceSummary:
    """Search space of a run: its name, the geometry of each layer, at most R candidates a layer."""

    name: str
    layers: tuple[str, ...]
    R: int


@dataclass(frozen=True, slots=True)
class EstimatorSummary:
    """Origin of a device's latencies (see `jmsnas.origin`), and MAPE of U(.) on held-out geometries."""

    origin: str
    unseen_mape: float

    def __post_init__(self) -> None:
        """Refuse an unknown origin."""
        if self.origin not in ORIGINS:
            raise ValueError(f"unknown origin {self.origin!r}: expected one of {', '.join(ORIGINS)}")


@dataclass(frozen=True, slots=True)
class PlacedArchitecture:
    """An architecture under its best split: T in seconds, sum of log p, every term of equation (1) or (2).

    `cuts` are those of the devices in line; `children` names the device that runs each branch of a mesh.
    """

    candidates: tuple[str, ...]
    cuts: tuple[int, ...]
    children: tuple[str, ...]
    latency_s: float
    score: float
    terms: tuple[LatencyTerm, ...]


@dataclass(frozen=True, slots=True)
class DerivedResult(PlacedArchitecture):
    """The derived architecture; `band` is None where it was derived by argmax, `gap` in nats of the score."""

    in_band: bool
    band: BandStatus | None
    optimal: bool
    gap: float


@dataclass(frozen=True, slots=True)
class CloudOnly:
    """T in seconds when the last device runs every layer, and bytes of the raw input."""

    latency_s: float
    input_bytes: float


@dataclass(frozen=True, slots=True)
class RunAccuracy:
    """Accuracy on the test images (0 to 1) with the supernet's weights, and after stage two."""

    inherited: float
    test: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """Result of a search, with the fields of `result.json`; seconds, bytes, bits per second.

    `jmsnas`: version of JMSNAS that searched. `split`: `fixed` where the layers of each device were given.
    `estimators`: by device, in the topology's order. `probabilities`: p at the end of stage one, (N, R).
    `alternatives` to the searched split: None in results of versions that did not compute them. `folder` of
    the run: not in the file.
    """

    schema_version: int
    name: str
    jmsnas: str
    space: SpaceSummary
    dataset: str
    topology: Topology
    split: Literal["joint", "fixed"]
    estimators: Mapping[str, EstimatorSummary]
    target: LatencyTarget
    expected_latency_s: float
    derived: DerivedResult
    argmax: PlacedArchitecture
    cloud_only: CloudOnly
    accuracy: RunAccuracy
    parameters: int
    macs: int
    probabilities: tuple[tuple[float, ...], ...]
    alternatives: SplitAlternatives | None = None
    folder: Path = Path()

    def __post_init__(self) -> None:
        """Refuse terms, layers and devices that do not fit together. Raises ValueError, SpaceError."""
        names, N = [device.name for device in self.topology.devices], len(self.space.layers)
        if list(self.estimators) != names:
            raise ValueError(f"expected an estimator for each of {', '.join(names)}")
        for placed in (self.derived, self.argmax):
            self.blocks_of(placed)
            layers = [n for term in placed.terms for n in term.layers]
            if (sorted(layers) if self.topology.root else layers) != list(range(1, N + 1)):
                raise ValueError(f"the terms do not hold each of {N} layers once, in order")
            if [term.device for term in placed.terms] != names:
                raise ValueError(f"expected a term for each of {', '.join(names)}")
            children = [term for term in placed.terms if term.device in self.topology.children]
            branches = sorted(n for term in children for n in term.layers)
            if children and (not branches or branches[0] == 1 or branches[-1] == N):
                raise ValueError("expected branches between a first and a last layer")

    def blocks_of(self, placed: PlacedArchitecture) -> tuple[Block, ...]:
        """Give the block of each layer of an architecture."""
        pairs = zip(placed.candidates, self.space.layers, strict=True)
        return tuple(Block.parse(f"{name} {layer}") for name, layer in pairs)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The block of each layer of the derived architecture."""
        return self.blocks_of(self.derived)

    @property
    def origins(self) -> dict[str, str]:
        """Origin of each device's latencies, by the device's name."""
        return {name: estimator.origin for name, estimator in self.estimators.items()}

    @property
    def document(self) -> dict[str, Any]:
        """The content of `result.json`."""
        document = asdict(self)
        del document["folder"]
        return document

    def load_space(self, workspace: Workspace) -> SearchSpace:
        """Load the search space of the run. Raises InputError where its layers have changed since."""
        space = load_space(self.space.name, workspace.spaces, len(self.topology.children))
        if tuple(str(layer) for layer in space.layers) != self.space.layers:
            raise InputError(f"space {space.name} has changed since the run {self.name}. {SEARCH_AGAIN}")
        return space


@dataclass(frozen=True, slots=True)
class _Version:
    schema_version: int


def read_result(folder: Path) -> RunResult:
    """Read the result of a finished run.

    Raises InputError where the folder holds none, the file is damaged, or it has another schema.
    """
    path = folder / "result.json"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{folder} holds no finished run ({error.strerror}: result.json). "
            "Run: jmsnas search --topology chain"
        ) from error
    version = decode_json(content, _Version, path).schema_version
    if version != SCHEMA_VERSION:
        raise InputError(f"{path} has schema {version}, this version reads {SCHEMA_VERSION}. {SEARCH_AGAIN}")
    return replace(decode_json(content, RunResult, path), folder=folder)


def decode_json(content: bytes, kind: type[T], path: Path) -> T:
    """Decode the JSON of a file of a run; what does not fit `kind` is one line. Raises InputError."""
    return parse_json(content, kind, path, InputError, SEARCH_AGAIN)


def finished_runs(workspace: Workspace) -> list[Path]:
    """Give the folders of the finished runs of a workspace, the newest first."""
    found = list((workspace.folder / "runs").glob("*/result.json"))
    found.sort(key=lambda path: (path.stat().st_mtime_ns, path.parent.name), reverse=True)
    return [path.parent for path in found]


def newest_run(workspace: Workspace) -> Path:
    """Give the folder of the run that finished last. Raises InputError where none has."""
    found = finished_runs(workspace)
    if not found:
        raise InputError(
            f"no finished run in {workspace.folder / 'runs'}. Run: jmsnas search --topology chain"
        )
    return found[0]


def find_run(workspace: Workspace, text: str) -> Path:
    """Give the folder of a run from its name in the workspace, or from its path.

    Raises InputError naming the nearest finished runs where the workspace has others only.
    """
    if "/" in text or Path(text, "result.json").exists():
        return Path(text)
    folder, names = workspace.run(text), [path.name for path in finished_runs(workspace)]
    if names and text not in names:
        near = difflib.get_close_matches(text, names) or sorted(names)[-5:]
        raise InputError(f"no finished run {text!r} in {folder.parent}: expected {' or '.join(near)}")
    return folder


def split_verdict(run: RunResult) -> str:
    """Say T of device only, cloud only, the best and the searched split, and which of them is the least.

    Empty where the run has no `alternatives`.
    """
    other = run.alternatives
    if other is None:
        return ""
    best, devices = other.best_split_s, run.topology.devices
    searched = [term.device for term in run.derived.terms if term.layers]
    found: list[tuple[str, float, Sequence[str]]] = [
        ("the searched split", run.derived.latency_s, searched),
        ("device only", other.device_only_s, [devices[0].name]),
        ("cloud only", run.cloud_only.latency_s, [devices[-1].name]),
    ]
    if best is not None:
        found.append(("the best split", best, other.best_devices))
    # Sums of the same terms in another order differ in the last digits: of equal ones the first counts.
    name, least_s, used = min(found, key=lambda own: float(f"{own[1]:.9g}"))
    verdict = f"{name} is the fastest, {ms(least_s)} on {', '.join(used)}"
    if len(used) == 1:
        verdict += ": do not split this model"
    return f"{'; '.join(f'{name} {ms(seconds)}' for name, seconds, _ in found)}: {verdict}"
