"""Latency table of a device: one row per block, with its confidence interval and environment.

docs/table.md describes the columns and the history of the schema.
"""

from dataclasses import dataclass, fields
from typing import Generic, TypeVar

from jmsnas.errors import TableError
from jmsnas.space import Block, Candidate, Layer, Part

SCHEMA_VERSION = 3
RUNTIMES = ("onnxruntime", "torch")
PROCESSORS = ("cpu", "cuda")
DTYPES = ("float32", "float16")
LAYOUTS = ("contiguous", "channels_last")
TIMERS = ("wall", "torchprof")
ROW_KINDS = ("measured", "simulated", "imported")
TRUST_LEVELS = ("green", "yellow", "red")
# Every sample is taken between two of this block, in the same runtime. In onnxruntime half of its time is
# overhead and half is arithmetic, as for the blocks of a small space, so that both change alike with load.
REFERENCE_BLOCK = Block(Candidate(3, 3), Layer(24, 24, 1, 8, 8))


@dataclass(frozen=True, slots=True, order=True)
class RuntimeKey:
    """Runtime settings under which a block was timed; rows of different keys are never mixed.

    `layout` is the memory layout of activations (a choice of torch only); `timer` is `wall` (wall clock, or
    device events on CUDA) or `torchprof` (sum over layers, as in the paper).
    """

    runtime: str = "onnxruntime"
    threads: int = 1
    batch: int = 1
    dtype: str = "float32"
    processor: str = "cpu"
    layout: str = "contiguous"
    timer: str = "wall"

    def __post_init__(self) -> None:
        """Raise TableError for settings that cannot be run."""
        if self.runtime not in RUNTIMES or self.threads < 1 or self.batch < 1:
            raise TableError(
                f"cannot run in {self.runtime!r} with {self.threads} threads and batch {self.batch}: "
                f"expected a runtime of {', '.join(RUNTIMES)}, and threads and batch of 1 or more"
            )
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                raise TableError(
                    f"unknown {name} {getattr(self, name)!r}: expected one of {', '.join(known)}"
                )
        if self.dtype == "float16" and self.processor == "cpu":
            raise TableError("cannot measure float16 on the cpu: expected float32, or --processor cuda")
        if self.runtime != "torch" and (self.layout, self.timer) != ("contiguous", "wall"):
            raise TableError(
                f"{self.runtime} chooses its own layout and cannot be timed by torchprof, got layout "
                f"{self.layout} and timer {self.timer}: both are for --runtime torch"
            )

    @property
    def label(self) -> str:
        """Short name for messages and estimator folders: `onnxruntime-t1-b1-f32`.

        Settings that are not the default follow: `torch-t1-b8-f16-cuda-channels-last-torchprof`.
        """
        terms = [f"{self.runtime}-t{self.threads}-b{self.batch}-{self.dtype.replace('float', 'f')}"]
        for name, known in _KNOWN.items():
            if name != "dtype" and getattr(self, name) != known[0]:
                terms.append(getattr(self, name).replace("_", "-"))
        return "-".join(terms)


KEY_FIELDS = tuple(field.name for field in fields(RuntimeKey))
_KNOWN = {"dtype": DTYPES, "processor": PROCESSORS, "layout": LAYOUTS, "timer": TIMERS}

S = TypeVar("S", Block, Part)


@dataclass(frozen=True, slots=True)
class LatencyRow(Generic[S]):
    """Latency of a block or of a part on one device.

    Attributes
    ----------
    block
        What was timed: a `Block` in a `BlockRow`, a `Part` in a `PartRow`.
    kind
        `measured`, `simulated` (a roofline; never a measurement of that device), or `imported` (from a file;
        how it was measured is unknown, and `reference_s` is 1 where the file has none).
    median_s, low_s, high_s
        Median seconds of one call and its 95 % interval (equal where simulated): the ratio times one
        reference latency shared by all rows of a key and an environment. The interval is that of the ratio,
        widened by the variation between processes (`jmsnas.profiler.table.noise_floor`).
    ratio, ratio_low, ratio_high
        Median over `samples` as a multiple of the reference block, which is invariant to drift, and its 95 %
        confidence interval within the processes that measured it.
    reference_s, min_s, p90_s
        Seconds of the reference block while this row was measured; minimum and 90th percentile of the
        samples, times the shared reference latency.
    rounds, converged
        Number of samples, one a round (0 where simulated); whether the interval reached 1 % either way.
    environment, measured_at, source
        Key of `LatencyTable.environments`; a date, for information only; origin of the number.
    samples, process_rounds
        Raw ratios to the reference, process after process, and the number of samples of each process.
    drift, interrupted, host_faults
        Relative change of the host's speed; share of the rounds in which another process held the core;
        faults of the host meanwhile, as text.
    trust, trust_reason
        `green`, `yellow` or `red`, and why (`jmsnas.profiler.table.trust`).
    energy_j
        Joules of one call, idle power subtracted; None where no meter can be read.
    stages, stages_s
        Layers of the block as timed by torchprof, and seconds of each; empty unless measured.
    """

    device: str
    key: RuntimeKey
    block: S
    kind: str
    median_s: float
    low_s: float
    high_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    reference_s: float
    min_s: float
    p90_s: float
    rounds: int
    converged: bool
    environment: str
    measured_at: str
    source: str
    samples: tuple[float, ...] = ()
    process_rounds: tuple[int, ...] = ()
    drift: float = 0.0
    interrupted: float = 0.0
    host_faults: tuple[str, ...] = ()
    trust: str = "yellow"
    trust_reason: str = "not rated"
    energy_j: float | None = None
    stages: tuple[str, ...] = ()
    stages_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raise TableError for inconsistent values."""
        if not 0 < self.low_s <= self.median_s <= self.high_s < 3600:
            raise TableError(
                f"{self.block} on {self.device} has median {self.median_s} s in "
                f"[{self.low_s}, {self.high_s}]: expected 0 < low <= median <= high < 3600 s"
            )
        if self.kind not in ROW_KINDS or not 0 < self.ratio_low <= self.ratio <= self.ratio_high:
            raise TableError(
                f"{self.block} on {self.device} is {self.kind!r} with ratio {self.ratio} in "
                f"[{self.ratio_low}, {self.ratio_high}]: expected one of {', '.join(ROW_KINDS)} and "
                "0 < low <= ratio <= high"
            )
        if self.samples and sum(self.process_rounds) != len(self.samples):
            raise TableError(
                f"{self.block} on {self.device} has {len(self.samples)} samples, but `process_rounds` sum to "
                f"{sum(self.process_rounds)}: expected the same number"
            )
        if self.trust not in TRUST_LEVELS:
            raise TableError(
                f"{self.block} has trust {self.trust!r}: expected one of {', '.join(TRUST_LEVELS)}"
            )
        if len(self.stages) != len(self.stages_s) or not all(0 < s < 3600 for s in self.stages_s):
            raise TableError(
                f"{self.block} has the stages {', '.join(self.stages) or 'none'} of {list(self.stages_s)} s: "
                "expected one latency per stage, between 0 and 3600 s"
            )

    @property
    def half_width(self) -> float:
        """Half width of the ratio's 95 % interval within its processes, relative to the ratio."""
        return (self.ratio_high - self.ratio_low) / (2 * self.ratio)

    @property
    def relative_ci(self) -> float:
        """Half width of the widened 95 % interval of the seconds, relative to the median."""
        return (self.high_s - self.low_s) / (2 * self.median_s)


@dataclass(frozen=True, slots=True)
class BlockRow(LatencyRow[Block]):
    """Latency of one block on one device."""


@dataclass(frozen=True, slots=True)
class PartRow(LatencyRow[Part]):
    """Latency of several consecutive blocks, run as one call."""


AnyRow = BlockRow | PartRow
R = TypeVar("R", BlockRow, PartRow)


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """Block and part latencies of one device, and the environments they were measured in, by id."""

    device: str
    rows: tuple[BlockRow, ...]
    environments: dict[str, dict[str, str]]
    parts: tuple[PartRow, ...] = ()

    def __post_init__(self) -> None:
        """Raise TableError for rows of another device and for duplicate rows."""
        rows = self.all_rows
        foreign = {row.device for row in rows} - {self.device}
        if foreign:
            raise TableError(f"a table of {self.device} has rows of {', '.join(sorted(foreign))}")
        if len({(row.key, row.block) for row in rows}) < len(rows):
            raise TableError(f"a table of {self.device} has a block twice under one key")

    @property
    def keys(self) -> tuple[RuntimeKey, ...]:
        """Distinct runtime keys of the rows, sorted."""
        return tuple(sorted({row.key for row in self.rows}))

    @property
    def all_rows(self) -> tuple[AnyRow, ...]:
        """All rows: blocks first, then parts."""
        found: list[AnyRow] = [*self.rows]
        return (*found, *self.parts)

    @property
    def measured_groups(self) -> dict[tuple[RuntimeKey, str], tuple[AnyRow, ...]]:
        """Measured rows by (key, environment): a group shares a reference latency and a noise floor."""
        found: dict[tuple[RuntimeKey, str], list[AnyRow]] = {}
        for row in self.all_rows:
            if row.kind == "measured":
                found.setdefault((row.key, row.environment), []).append(row)
        return {group: tuple(rows) for group, rows in found.items()}

    @property
    def simulated(self) -> bool:
        """Whether any row is simulated."""
        return any(row.kind == "simulated" for row in self.rows)

    def for_key(self, key: RuntimeKey) -> "LatencyTable":
        """Table of the rows of one key. Raises TableError when there is none."""
        rows = tuple(row for row in self.rows if row.key == key)
        if not rows:
            have = ", ".join(k.label for k in self.keys) or "none"
            raise TableError(
                f"the table of {self.device} has no rows for {key.label} (it has {have}). "
                f"Run: jmsnas profile --device {self.device} --runtime {key.runtime}"
            )
        parts = tuple(row for row in self.parts if row.key == key)
        return LatencyTable(self.device, rows, self.environments, parts)
