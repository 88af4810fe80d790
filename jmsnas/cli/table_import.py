"""`jmsnas table import`: latencies that others measured, as a table of the workspace."""

from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from jmsnas.cli.table import table_app
from jmsnas.cli.terminal import one_line_errors, print_json, warn
from jmsnas.workspace import Workspace

_KEY = ("runtime", "threads", "batch", "dtype", "processor", "layout")
_IMPORT = """Bring in latencies that others measured, as the table of a device: tables/NAME.parquet.

A look-up table of ProxylessNAS or Once-for-All (.yaml, .json), CSV, or a published table (.parquet):
docs/own_tables.md. Files with errors that the quality gate finds are refused; a measured table is never
replaced.

[bold]Examples[/bold]

  jmsnas table import mobile_trim.yaml --device pixel1

  jmsnas table import board.csv --device board --runtime torch --threads 4

  jmsnas table import boards.parquet --only Cortex-A73 --device a73 --force

Next: jmsnas fit-estimator --device NAME
"""


@table_app.command("import", help=_IMPORT)
@one_line_errors
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Latencies (.yaml, .json, .csv, .parquet).")],
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="Whose latencies they are.")],
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="onnxruntime or torch: what they stand for in a search.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", max=1024, help="Threads a block ran with.")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", max=65536, help="Images a call (.yaml).")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, or float16 on cuda.")] = None,
    processor: Annotated[str | None, typer.Option("--processor", help="cpu or cuda.")] = None,
    layout: Annotated[str | None, typer.Option("--layout", help="contiguous or channels_last.")] = None,
    only: Annotated[
        str | None,
        typer.Option("--only", help="Rows whose device, processor, run time or campaign says so."),
    ] = None,
    column: Annotated[str, typer.Option("--field", help="Which number of an entry (.yaml).")] = "mean",
    force: Annotated[
        bool, typer.Option("--force", help="In spite of errors found; those rows are marked red.")
    ] = False,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, import, say what came of it."""
    from dataclasses import asdict

    from jmsnas.profiler.exchange.import_table import ImportRequest, import_table

    said = (runtime, threads, batch, dtype, processor, layout)
    stated = {name: value for name, value in zip(_KEY, said, strict=True) if value is not None}
    found = import_table(file, ImportRequest(device, stated, only, column, force), Workspace(folder))
    for entry in found.findings:
        warn(f"{entry.severity}: {entry.rule}: {entry.message}")
    rows, keys = len(found.table.all_rows), [key.label for key in found.table.keys]
    if as_json:
        findings = [asdict(entry) for entry in found.findings]
        print_json(
            {"table": str(found.path), "rows": rows, "keys": keys, "left_out": dict(found.skipped)}
            | {"setting": found.setting, "findings": findings}
        )
        return
    print(f"{found.path}: {rows} imported rows of {device} ({', '.join(keys)})")
    if found.setting:
        print(f"the file says: {found.setting}")
    for why, count in found.skipped.items():
        print(f"left out, no block here is one: {count} x {why}")
    print(f"\nNext: jmsnas fit-estimator --device {device}")
