"""A latency table: one row a block on a device, with its interval and what it was measured on.

docs/table.md describes every column and has the history of the schema.
"""

from dataclasses import dataclass
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
# Every sample stands between two of this block, in the same run time. Half of its time in onnxruntime is
# overhead and half arithmetic, as for the blocks of a small space: what slows one part slows both alike.
REFERENCE_BLOCK = Block(Candidate(3, 3), Layer(24, 24, 1, 8, 8))


@dataclass(frozen=True, slots=True, order=True)
class RuntimeKey:
    """How a block was run and timed: rows of different keys are never mixed.

    `layout` is how activations lie in memory (torch alone has the choice); `timer` is `wall` (wall clock, or
    device events on CUDA) or `torchprof` (the sum over its layers, as in the paper).
    """

    runtime: str = "onnxruntime"
    threads: int = 1
    batch: int = 1
    dtype: str = "float32"
    processor: str = "cpu"
    layout: str = "contiguous"
    timer: str = "wall"

    def __post_init__(self) -> None:
        """Refuse a way of running that does not exist."""
        if self.runtime not in RUNTIMES or self.threads < 1 or self.batch < 1:
            raise TableError(
                f"cannot run in {self.runtime!r} with {self.threads} threads and batch {self.batch}: "
                f"expected a run time of {', '.join(RUNTIMES)}, and threads and batch of 1 or more"
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
                f"{self.runtime} chooses its own layout and torchprof cannot see into it, got layout "
                f"{self.layout} and timer {self.timer}: both are for --runtime torch"
            )

    @property
    def label(self) -> str:
        """The key as it is printed and as estimator folders are named: `onnxruntime-t1-b1-f32`.

        What is not the usual stands behind it: `torch-t1-b8-f16-cuda-channels-last-torchprof`.
        """
        words = [f"{self.runtime}-t{self.threads}-b{self.batch}-{self.dtype.replace('float', 'f')}"]
        for name, known in _KNOWN.items():
            if name != "dtype" and getattr(self, name) != known[0]:
                words.append(getattr(self, name).replace("_", "-"))
        return "-".join(words)


_KNOWN = {"dtype": DTYPES, "processor": PROCESSORS, "layout": LAYOUTS, "timer": TIMERS}

S = TypeVar("S", Block, Part)


@dataclass(frozen=True, slots=True)
class LatencyRow(Generic[S]):
    """The latency of a block, or of a part, on one device.

    Attributes
    ----------
    block
        What was timed: a `Block` in a `BlockRow`, a `Part` in a `PartRow`.
    kind
        `measured`, `simulated` (a roofline; never a measurement of that device), or `imported` (a number
        of others; nothing else is known of it, and `reference_s` is 1 where the file has none).
    median_s, low_s, high_s
        Median seconds of one call and its 95 % interval (equal where simulated): the ratio times one level,
        which all rows of a key and an environment share; the interval is that of the ratio, widened by what
        another process finds (`jmsnas.profiler.table.noise_floor`).
    ratio, ratio_low, ratio_high
        Median over `samples` as a multiple of the reference block, which drift does not move, and its 95 %
        confidence interval within the processes that measured it.
    reference_s, min_s, p90_s
        The reference block's own level while this row was measured; fastest and 90th percentile of the
        samples, times the shared level.
    rounds, converged
        Number of samples, one a round (0 where simulated); whether the interval reached 1 % either way.
    environment, measured_at, source
        Key of `LatencyTable.environments`; a date as a label, on which nothing rests; who made the number.
    samples, process_rounds
        Raw ratios to the reference, process after process, and how many each process took.
    drift, interrupted, host_faults
        How the host's speed moved; share of the rounds in which something else held the core; what the host
        showed meanwhile, in words.
    trust, trust_reason
        `green`, `yellow` or `red`, and why (`jmsnas.profiler.table.trust`).
    energy_j
        Joules of one call, idle power subtracted; None where no meter can be read.
    stages, stages_s
        Where the time goes as torchprof sees it, and seconds of each; empty until that was asked for.
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
    trust_reason: str = "never judged"
    energy_j: float | None = None
    stages: tuple[str, ...] = ()
    stages_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a latency that cannot be."""
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
                f"{self.block} on {self.device} has {len(self.samples)} samples, but its processes took "
                f"{sum(self.process_rounds)}: expected as many"
            )
        if self.trust not in TRUST_LEVELS:
            raise TableError(
                f"{self.block} has trust {self.trust!r}: expected one of {', '.join(TRUST_LEVELS)}"
            )
        if len(self.stages) != len(self.stages_s) or not all(0 < s < 3600 for s in self.stages_s):
            raise TableError(
                f"{self.block} has the stages {', '.join(self.stages) or 'none'} of {list(self.stages_s)} s: "
                "expected as many seconds, between 0 and 3600"
            )

    @property
    def half_width(self) -> float:
        """Half width of the ratio's 95 % interval within its processes, as a share of the ratio."""
        return (self.ratio_high - self.ratio_low) / (2 * self.ratio)

    @property
    def relative_ci(self) -> float:
        """Half width of the seconds' 95 % interval, widened by what another process finds, as a share."""
        return (self.high_s - self.low_s) / (2 * self.median_s)


@dataclass(frozen=True, slots=True)
class BlockRow(LatencyRow[Block]):
    """The latency of one block."""


@dataclass(frozen=True, slots=True)
class PartRow(LatencyRow[Part]):
    """The latency of several blocks in a row, run as one call."""


AnyRow = BlockRow | PartRow
R = TypeVar("R", BlockRow, PartRow)


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """Rows of one device, whole parts beside them, and the environments they were measured in, by name."""

    device: str
    rows: tuple[BlockRow, ...]
    environments: dict[str, dict[str, str]]
    parts: tuple[PartRow, ...] = ()

    def __post_init__(self) -> None:
        """Refuse rows of another device and rows that stand twice."""
        both = self.all_rows
        foreign = {row.device for row in both} - {self.device}
        if foreign:
            raise TableError(f"a table of {self.device} holds rows of {', '.join(sorted(foreign))}")
        if len({(row.key, row.block) for row in both}) < len(both):
            raise TableError(f"a table of {self.device} holds a block twice under one key")

    @property
    def keys(self) -> tuple[RuntimeKey, ...]:
        """The keys it has rows for, sorted."""
        return tuple(sorted({row.key for row in self.rows}))

    @property
    def all_rows(self) -> tuple[AnyRow, ...]:
        """Rows of blocks, then rows of parts."""
        found: list[AnyRow] = [*self.rows]
        return (*found, *self.parts)

    @property
    def settings(self) -> dict[tuple[RuntimeKey, str], tuple[AnyRow, ...]]:
        """Measured rows and parts by (key, environment): those that share a level and a noise floor."""
        found: dict[tuple[RuntimeKey, str], list[AnyRow]] = {}
        for row in self.all_rows:
            if row.kind == "measured":
                found.setdefault((row.key, row.environment), []).append(row)
        return {setting: tuple(rows) for setting, rows in found.items()}

    @property
    def simulated(self) -> bool:
        """Whether any row is simulated."""
        return any(row.kind == "simulated" for row in self.rows)

    def for_key(self, key: RuntimeKey) -> "LatencyTable":
        """The rows of one key. Raises TableError when there is none."""
        rows = tuple(row for row in self.rows if row.key == key)
        if not rows:
            have = ", ".join(k.label for k in self.keys) or "none"
            raise TableError(
                f"the table of {self.device} has no rows for {key.label} (it has {have}). "
                f"Run: jmsnas profile --device {self.device} --runtime {key.runtime}"
            )
        parts = tuple(row for row in self.parts if row.key == key)
        return LatencyTable(self.device, rows, self.environments, parts)
