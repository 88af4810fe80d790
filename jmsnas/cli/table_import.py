"""`jmsnas table import`: import latencies measured by others as a latency table of the workspace."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, options_from
from jmsnas.cli.table import table_app
from jmsnas.cli.terminal import one_line_errors, print_json, print_line, warn
from jmsnas.workspace import Workspace

_KEY_FIELDS = ("runtime", "threads", "batch", "dtype", "processor", "layout")
_HELP = """Import latencies measured by others as the latency table of a device: tables/NAME.parquet.

Reads a look-up table of ProxylessNAS or Once-for-All (.yaml, .json), CSV, or a published table (.parquet):
docs/own_tables.md. Files with errors by the quality gate are refused; a measured table is never replaced.

[bold]Examples[/bold]

  jmsnas table import mobile_trim.yaml --device pixel1

  jmsnas table import board.csv --device board --runtime torch --threads 4

  jmsnas table import boards.parquet --only Cortex-A73 --device a73 --force

Next: jmsnas fit-estimator --device NAME
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportArguments:
    """Command-line arguments of `jmsnas table import`."""

    file: Annotated[Path, typer.Argument(metavar="FILE", help="Latencies (.yaml, .json, .csv, .parquet).")]
    device: Annotated[str, typer.Option(metavar="NAME", help="Name of the measured device.")]
    runtime: Annotated[str | None, typer.Option(help="onnxruntime or torch: the runtime it stands for.")] = (
        None
    )
    threads: Annotated[int | None, typer.Option(max=1024, help="Threads per block.")] = None
    batch: Annotated[int | None, typer.Option(max=65536, help="Images per call (.yaml).")] = None
    dtype: Annotated[str | None, typer.Option(help="float32, or float16 on cuda.")] = None
    processor: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None
    layout: Annotated[str | None, typer.Option(help="contiguous or channels_last.")] = None
    only: Annotated[
        str | None, typer.Option(help="Rows whose device, processor, runtime or campaign contains this text.")
    ] = None
    column: Annotated[str, typer.Option("--field", help="Field of an entry that is the latency (.yaml).")] = (
        "mean"
    )
    force: Annotated[bool, typer.Option("--force", help="Import rows with errors, with trust level red.")] = (
        False
    )
    folder: WorkspaceOption = DEFAULT_WORKSPACE
    as_json: JsonOption = False


@table_app.command("import", help=_HELP)
@one_line_errors
@options_from(ImportArguments)
def import_command(args: ImportArguments) -> None:
    """Parse, import, print."""
    from jmsnas.profiler.exchange.import_table import ImportRequest, import_table

    values = {name: getattr(args, name) for name in _KEY_FIELDS}
    key_fields = {name: value for name, value in values.items() if value is not None}
    request = ImportRequest(args.device, key_fields, args.only, args.column, args.force)
    imported = import_table(args.file, request, Workspace(args.folder))
    for finding in imported.findings:
        warn(f"{finding.severity}: {finding.rule}: {finding.message}")
    rows, keys = len(imported.table.all_rows), [key.label for key in imported.table.keys]
    if args.as_json:
        findings = [asdict(finding) for finding in imported.findings]
        print_json(
            {"table": str(imported.path), "rows": rows, "keys": keys, "skipped": dict(imported.skipped)}
            | {"setting": imported.setting, "findings": findings}
        )
        return
    print_line(f"{imported.path}: {rows} imported rows of {args.device} ({', '.join(keys)})")
    if imported.setting:
        print_line(f"setting of the file: {imported.setting}")
    for reason, count in imported.skipped.items():
        print_line(f"skipped, not a block of JMSNAS: {count} x {reason}")
    print_line("", f"Next: jmsnas fit-estimator --device {args.device}")
