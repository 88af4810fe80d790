"""Latency of a block from any source, as input of the quality checks.

Values are not validated here: finding negative or missing latencies is the purpose of the checks.
"""

from dataclasses import dataclass

from jmsnas.cost import operators
from jmsnas.profiler.table.latency_table import BlockRow, LatencyTable


@dataclass(frozen=True, slots=True)
class LatencyEntry:
    """One latency of one block on one device, from a table of any format; not validated.

    Attributes
    ----------
    table, row
        Path of the file, and number of the row in it, from 1.
    device, setting
        Device (with processor), and runtime, threads, batch and number format.
    campaign
        Name of the measurement campaign, empty for a table of one campaign.
    op, kernel_size, expansion, shortcut, in_channels, out_channels, stride, height, width
        The block; `op` is mb, identity, stem, head, model, or a name used by the published table.
    variant
        Other properties of the block: groups, squeeze-and-excitation, activation, architecture.
    macs, moved
        Multiply-accumulates and numbers moved of one call, batch included; 0 where not known. Work that the
        table does not describe is not counted, so that a throughput computed from them is never too high.
    median_s, low_s, high_s
        Seconds of one call and its 95 % interval; `low_s` and `high_s` are None without an interval.
    converged
        None where the table has no such information.
    simulated
        Whether the latency was simulated.
    red_reason
        Reason why a measured row has trust level red, otherwise empty.
    measured_at
        Sort key of rows in time; equal values keep the order of the file.
    threads
        Number of threads, 1 where the table has no such information.
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
    red_reason: str = ""
    measured_at: str = ""
    threads: int = 1

    @property
    def block(self) -> tuple[str | float, ...]:
        """Operation and geometry: equal for two entries of one block on any devices."""
        geometry = (self.in_channels, self.out_channels, self.stride, self.height, self.width)
        return (self.op, self.kernel_size, self.expansion, self.shortcut, *geometry, self.variant)

    @property
    def group(self) -> tuple[str, ...]:
        """Entries of equal `group` are comparable: one device, setting and campaign of one table."""
        return (self.table, self.device, self.setting, self.campaign)

    @property
    def label(self) -> str:
        """Short name for messages: `mb_k5_e6_skip 24->24 8x8 /2`; a model by its architecture."""
        if self.op == "model":
            return f"model {self.variant[:60]}"
        name = f"mb_k{self.kernel_size}_e{self.expansion:.3g}" if self.op == "mb" else self.op
        stride = f" /{self.stride}" if self.stride > 1 else ""
        variant = f" ({self.variant})" if self.variant else ""
        skip = "_skip" if self.shortcut else ""
        shape = f"{self.in_channels}->{self.out_channels} {self.height}x{self.width}{stride}"
        return f"{name}{skip} {shape}{variant}"


def entries_of_table(table: LatencyTable, name: str) -> tuple[LatencyEntry, ...]:
    """Convert the rows of a JMSNAS table to entries; `name` is the table's name in findings."""
    return tuple(_entry(row, name, number) for number, row in enumerate(table.rows, 1))


def _entry(row: BlockRow, table: str, number: int) -> LatencyEntry:
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
        red_reason=row.trust_reason if (row.kind, row.trust) == ("measured", "red") else "",
        measured_at=row.measured_at,
        threads=row.key.threads,
    )
