"""A latency table: one row a block on a device, with its interval and what it was measured on.

Schema history: 1 (2026-11) first version. docs/table.md describes every column.
"""

from dataclasses import dataclass

from jmsnas.errors import TableError
from jmsnas.space import Block, Candidate, Layer

SCHEMA_VERSION = 1
RUNTIMES = ("onnxruntime", "torch")
KINDS = ("measured", "simulated")
# Every sample stands between two of this block, in the same run time. Half of its time in onnxruntime is
# overhead and half arithmetic, as for the blocks of a small space: what slows one part slows both alike.
REFERENCE = Block(Candidate(3, 3), Layer(24, 24, 1, 8, 8))


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """How a block was run: rows of different keys are never mixed."""

    runtime: str = "onnxruntime"
    threads: int = 1
    batch: int = 1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Refuse a way of running that does not exist."""
        if self.runtime not in RUNTIMES or self.threads < 1 or self.batch < 1:
            raise TableError(
                f"cannot run in {self.runtime!r} with {self.threads} threads and batch {self.batch}: "
                f"expected a run time of {', '.join(RUNTIMES)}, and threads and batch of 1 or more"
            )

    @property
    def label(self) -> str:
        """The key as it is printed and as estimator folders are named: `onnxruntime-t1-b1-f32`."""
        return f"{self.runtime}-t{self.threads}-b{self.batch}-{self.dtype.replace('float', 'f')}"


@dataclass(frozen=True, slots=True)
class Row:
    """The latency of one block on one device.

    Attributes
    ----------
    kind
        `measured`, or `simulated` (a roofline; never a measurement of that device).
    median_s, low_s, high_s
        Median seconds of one call and its 95 % confidence interval (equal where simulated): the ratio and
        its interval times one level, which all rows of a key and an environment share.
    ratio, ratio_low, ratio_high
        The same as multiples of the reference block, which drift does not move.
    reference_s
        The reference block's own level in seconds while this row was measured; the shared level is the
        median of it over the rows.
    min_s, p90_s
        Fastest and 90th percentile of the samples, times the shared level.
    rounds
        Number of samples, one a round; 0 where simulated.
    converged
        Whether the half width of the ratio's interval reached the target.
    environment
        Key of `LatencyTable.environments`: what it was measured on.
    measured_at
        Date as a label (UTC, ISO 8601); no computation rests on it.
    source
        Where the number comes from: this program, or the device file whose constants made it.
    samples
        Raw ratios to the reference, one a round.
    """

    device: str
    key: Key
    block: Block
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

    def __post_init__(self) -> None:
        """Refuse a latency that cannot be."""
        if not 0 < self.low_s <= self.median_s <= self.high_s < 3600:
            raise TableError(
                f"{self.block} on {self.device} has median {self.median_s} s in "
                f"[{self.low_s}, {self.high_s}]: expected 0 < low <= median <= high < 3600 s"
            )
        if self.kind not in KINDS or not 0 < self.ratio_low <= self.ratio <= self.ratio_high:
            raise TableError(
                f"{self.block} on {self.device} is {self.kind!r} with ratio {self.ratio} in "
                f"[{self.ratio_low}, {self.ratio_high}]: expected {' or '.join(KINDS)} and "
                "0 < low <= ratio <= high"
            )

    @property
    def half_width(self) -> float:
        """Half width of the ratio's 95 % interval, as a share of the ratio."""
        return (self.ratio_high - self.ratio_low) / (2 * self.ratio)


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """Rows of one device, and the environments they were measured in, by name."""

    device: str
    rows: tuple[Row, ...]
    environments: dict[str, dict[str, str]]

    def __post_init__(self) -> None:
        """Refuse rows of another device and rows that stand twice."""
        foreign = {row.device for row in self.rows} - {self.device}
        if foreign:
            raise TableError(f"a table of {self.device} holds rows of {', '.join(sorted(foreign))}")
        if len({(row.key, row.block) for row in self.rows}) < len(self.rows):
            raise TableError(f"a table of {self.device} holds a block twice under one key")

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys it has rows for, sorted."""
        return tuple(sorted({row.key for row in self.rows}))

    @property
    def simulated(self) -> bool:
        """Whether any row is simulated."""
        return any(row.kind == "simulated" for row in self.rows)

    def of(self, key: Key) -> "LatencyTable":
        """The rows of one key. Raises TableError when there is none."""
        rows = tuple(row for row in self.rows if row.key == key)
        if not rows:
            have = ", ".join(k.label for k in self.keys) or "none"
            raise TableError(
                f"the table of {self.device} has no rows for {key.label} (it has {have}). "
                f"Run: jmsnas profile --device {self.device} --runtime {key.runtime}"
            )
        return LatencyTable(self.device, rows, self.environments)
