"""Latencies as the quality gate sees them, whoever measured them.

Nothing is refused for its value: a negative or missing latency is what the gate is there to find.
"""

from dataclasses import dataclass

from jmsnas.cost import operators
from jmsnas.profiler.table.latency_table import BlockRow, LatencyTable


@dataclass(frozen=True, slots=True)
class LatencyEntry:
    """One latency of one block on one device, whatever it is worth.

    Attributes
    ----------
    table, row
        The file's path as it was given, and the row's number in it, from 1.
    device, setting
        What ran it (processor included), and how: run time, threads, batch, number format.
    campaign
        Which of several measurement campaigns of one table, empty where there is one.
    op, kernel_size, expansion, shortcut, in_channels, out_channels, stride, height, width
        The block; `op` is mb, identity, stem, head, network, or another table's own word.
    variant
        Whatever else sets the block apart: groups, squeeze-and-excite, activation, architecture.
    macs, moved
        Multiply-accumulates and numbers moved of one call, batch included; 0 where not known. They leave
        out what a table does not tell, so that a throughput made of them is never too high.
    median_s, low_s, high_s
        Seconds of one call and a 95 % interval; without an interval `low_s` and `high_s` are None.
    converged
        None where the table does not say.
    simulated
        Whether the number is a model's.
    distrust
        Why a measured row is not to be trusted (its mark is red); empty where it is, or the table does not
        say.
    moment
        What rows sort by in time; equal values keep the order of the file.
    threads
        Threads, 1 where the table does not say.
    """

    table: str
    row: int
    device: str
    setting: str
    op: str
    median_s: float
    kernel_size: int = 0
    expansion: float = 0.0
    shortcut: bool = False
    in_channels: int = 0
    out_channels: int = 0
    stride: int = 1
    height: int = 0
    width: int = 0
    variant: str = ""
    campaign: str = ""
    macs: float = 0.0
    moved: float = 0.0
    low_s: float | None = None
    high_s: float | None = None
    converged: bool | None = None
    simulated: bool = False
    distrust: str = ""
    moment: str = ""
    threads: int = 1

    @property
    def block(self) -> tuple[str | float, ...]:
        """What was run: equal for two readings of one block, on whatever device."""
        geometry = (self.in_channels, self.out_channels, self.stride, self.height, self.width)
        return (self.op, self.kernel_size, self.expansion, self.shortcut, *geometry, self.variant)

    @property
    def sweep(self) -> tuple[str, ...]:
        """What it may be compared within: one device, one setting, one campaign of one table."""
        return (self.table, self.device, self.setting, self.campaign)

    @property
    def text(self) -> str:
        """Print as `mb_k5_e6_skip 24->24 8x8 /2`; a network by its architecture."""
        if self.op == "network":
            return f"network {self.variant[:60]}"
        name = f"mb_k{self.kernel_size}_e{self.expansion:.3g}" if self.op == "mb" else self.op
        stride = f" /{self.stride}" if self.stride > 1 else ""
        variant = f" ({self.variant})" if self.variant else ""
        skip = "_skip" if self.shortcut else ""
        shape = f"{self.in_channels}->{self.out_channels} {self.height}x{self.width}{stride}"
        return f"{name}{skip} {shape}{variant}"


def entries_of_table(table: LatencyTable, name: str) -> tuple[LatencyEntry, ...]:
    """Give the rows of one of our tables as readings; `name` is what findings call it."""
    return tuple(_own(row, name, number) for number, row in enumerate(table.rows, 1))


def _own(row: BlockRow, table: str, number: int) -> LatencyEntry:
    candidate, layer, found = row.block.candidate, row.block.layer, operators(row.block)
    moved = sum(row.key.batch * (op.read + op.written) + op.parameters for op in found)
    return LatencyEntry(
        table=table,
        row=number,
        device=row.device,
        setting=row.key.label,
        op=candidate.op,
        median_s=row.median_s,
        kernel_size=candidate.kernel_size,
        expansion=float(candidate.expansion),
        shortcut=candidate.shortcut,
        in_channels=layer.in_channels,
        out_channels=layer.out_channels,
        stride=layer.stride,
        height=layer.height,
        width=layer.width,
        variant=f"hidden {layer.hidden_channels}" if layer.hidden_channels else "",
        macs=float(row.key.batch * sum(op.macs for op in found)),
        moved=float(moved),
        low_s=row.low_s,
        high_s=row.high_s,
        converged=None if row.kind == "imported" else row.converged,
        simulated=row.kind == "simulated",
        distrust=row.trust_reason if (row.kind, row.trust) == ("measured", "red") else "",
        moment=row.measured_at,
        threads=row.key.threads,
    )
