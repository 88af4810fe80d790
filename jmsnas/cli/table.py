"""`jmsnas table`: check, compare and export latency tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jmsnas.cli import CommandGroup, app
from jmsnas.cli.options import JsonOption
from jmsnas.cli.terminal import one_line_errors, print_json, print_line, table_lines

if TYPE_CHECKING:
    from jmsnas.profiler.table.compare import TableComparison
    from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey

table_app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="Check, compare, import and export latency tables.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
app.add_typer(table_app, name="table")

_CHECK = """Check latency tables with the quality gate: physics, units, copies, repeats, cold starts.

For tables of JMSNAS and published ones (columns: docs/table.md). Exit code 1 if an error is found.

[bold]Examples[/bold]

  jmsnas table check jmsnas-workspace/tables/local.parquet

  jmsnas table check pi4.parquet laptop.parquet      also detects copies between tables

  jmsnas table check --json published.parquet
"""
_COMPARE = """Compare two latency tables: the ratio B / A with its interval per block, and a verdict.

Exit code 1 if the median ratio differs from 1 by more than --tolerance; 2 if they cannot be compared.

[bold]Examples[/bold]

  jmsnas table compare before.parquet after.parquet

  jmsnas table compare before.parquet after.parquet --tolerance 0.02 --json
"""
_EXPORT = """Write a latency table as a flat CSV file without the raw samples, or as a look-up table.

[bold]Examples[/bold]

  jmsnas table export jmsnas-workspace/tables/local.parquet --csv local.csv

  jmsnas table export jmsnas-workspace/tables/local.parquet --yaml lut.yaml --key onnxruntime-t1-b1-f32
"""


@table_app.command("check", help=_CHECK)
@one_line_errors
def check_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Tables (.parquet).")],
    as_json: JsonOption = False,
) -> None:
    """Parse, check all files together, print; exit code 1 if there is an error."""
    from dataclasses import asdict

    from jmsnas.profiler.quality.gate import check_quality
    from jmsnas.profiler.quality.read_published import read_entries

    readings = [reading for path in dict.fromkeys(files) for reading in read_entries(path)]
    found = check_quality(readings)
    errors = sum(entry.severity == "error" for entry in found)
    if as_json:
        findings = [asdict(entry) for entry in found]
        print_json({"rows": len(readings), "errors": errors, "findings": findings})
    else:
        rows = [(entry.severity, entry.rule, f"{entry.table}: {entry.message}") for entry in found]
        columns = (("severity", "<9"), ("rule", "<21"), ("finding", ""))
        for line in table_lines(columns, rows, head=False):
            print_line(line)
        print_line(
            f"{len(readings)} rows: {_count(errors, 'error')}, {_count(len(found) - errors, 'warning')}"
        )
    if errors:
        raise typer.Exit(1)


@table_app.command("compare", help=_COMPARE)
@one_line_errors
def compare_command(
    first: Annotated[Path, typer.Argument(metavar="A", help="A latency table (.parquet).")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The other one.")],
    tolerance: Annotated[
        float, typer.Option(help="Allowed deviation of the median ratio from 1: 0.05 is 5 %.")
    ] = 0.05,
    as_json: JsonOption = False,
) -> None:
    """Parse, compare, print; exit code 1 if they differ."""
    from jmsnas.profiler.table.compare import compare_tables
    from jmsnas.profiler.table.parquet import read_table

    found = compare_tables(read_table(first), read_table(second), tolerance)
    if as_json:
        print_json(_comparison_document(found))
    else:
        _print_comparison(found)
    if found.differ:
        raise typer.Exit(1)


@table_app.command("export", help=_EXPORT)
@one_line_errors
def export_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A latency table (.parquet).")],
    csv: Annotated[Path | None, typer.Option(metavar="OUT", help="The CSV file to write.")] = None,
    yaml: Annotated[
        Path | None, typer.Option(metavar="OUT", help="The look-up table to write, of one key.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--key", help="Only the rows of this key, as onnxruntime-t1-b1-f32.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Parse, write, print the path."""
    from jmsnas.errors import TableError
    from jmsnas.files import write_atomic
    from jmsnas.profiler.exchange.lut_yaml import table_to_lut
    from jmsnas.profiler.table.csv_export import table_to_csv
    from jmsnas.profiler.table.parquet import read_table

    if (csv is None) == (yaml is None):
        raise TableError("expected an output file: either --csv OUT or --yaml OUT")
    table = read_table(file)
    if label is not None or yaml:
        table = table.for_key(_find_key(table, label))
    rows = len(table.all_rows)
    if csv:
        write_atomic(csv, table_to_csv(table).encode())
        document: dict[str, Any] = {"csv": str(csv), "rows": rows}
        text = f"{csv}: {rows} rows of {table.device}"
    elif yaml:
        lut, written = table_to_lut(table)
        write_atomic(yaml, lut.encode())
        document = {"yaml": str(yaml), "rows": written, "skipped": rows - written}
        text = f"{yaml}: {written} rows of {table.device}; {rows - written} cannot be in a look-up table"
    print_json(document) if as_json else print_line(text)


def _find_key(table: "LatencyTable", label: str | None) -> "RuntimeKey":
    """Find a table's runtime key by label; without a label the table must have a single key."""
    from jmsnas.errors import TableError

    found = [key for key in table.keys if label in (None, key.label)]
    if len(found) != 1:
        have = ", ".join(key.label for key in table.keys) or "none"
        found_text = f"no key {label!r}" if label else f"{len(found)} keys"
        raise TableError(f"the table of {table.device} has {found_text}: expected --key with one of {have}")
    return found[0]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _comparison_document(found: "TableComparison") -> dict[str, Any]:
    return {
        "verdict": "differ" if found.differ else "agree",
        "median_ratio": found.median_ratio,
        "tolerance": found.tolerance,
        "disjoint_share": found.disjoint_share,
        "level_ratio": found.level_ratio,
        "only_first": found.only_first,
        "only_second": found.only_second,
        "environment": {name: list(sides) for name, sides in found.environment.items()},
        "blocks": [
            {
                "key": entry.key.label,
                "block": str(entry.block),
                "ratio": entry.ratio,
                "low": entry.low,
                "high": entry.high,
                "disjoint": entry.disjoint,
            }
            for entry in found.ratios
        ],
    }


def _print_comparison(found: "TableComparison") -> None:
    rows = []
    for entry in sorted(found.ratios, key=lambda entry: (entry.key, -entry.ratio)):
        note = "  disjoint" if entry.disjoint else ""
        span = f"  {entry.low:.3f} to {entry.high:.3f}"
        rows.append((f"{entry.ratio:.3f}", span, f"  {entry.key.label}  {entry.block}{note}"))
    columns = (("B / A", ">7"), ("  95 % interval", "<18"), ("  block", ""))
    print_line(*table_lines(columns, rows))
    for name, (was, now) in found.environment.items():
        print_line(f"changed: {name} from {was} to {now}")
    if found.only_first or found.only_second:
        print_line(
            f"not compared: {_count(found.only_first, 'row')} only in A, {found.only_second} only in B"
        )
    verdict = "They differ" if found.differ else "They agree"
    print_line(
        f"{verdict}: median ratio {found.median_ratio:.3f} over {_count(len(found.ratios), 'block')} "
        f"(tolerance {found.tolerance:.0%}; the reference block alone {found.level_ratio:.3f}); "
        f"{found.disjoint_share:.0%} of the intervals do not overlap"
    )
