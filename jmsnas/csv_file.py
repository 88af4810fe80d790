"""CSV tables of other programs, separated by commas, semicolons or tabs; cells that are no formulas.

Spreadsheets write semicolons and decimal commas in most of Europe.
"""

import csv
import io
import itertools
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from jmsnas.errors import InputError
from jmsnas.streams import printable

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_COMMA_NUMBER = re.compile(r"\s*[-+]?[0-9]+,[0-9]+(?:[eE][-+]?[0-9]+)?\s*[a-zA-Z\u00b5\u03bc/]*\s*")
_POINT_NUMBER = re.compile(r"\s*[-+]?[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?\s*[a-zA-Z\u00b5\u03bc/]*\s*")
_MAX_ROWS = 50_000
# What a spreadsheet takes for a formula, behind any apostrophes.
_FORMULA = re.compile(r"'*[=+\-@]")


def cell_of_text(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula, and escape line ends."""
    shown = printable(text)
    return f"'{shown}" if _FORMULA.match(shown) else shown


def text_of_cell(cell: str) -> str:
    """Take away the apostrophe of `cell_of_text`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


@dataclass(frozen=True, slots=True)
class CsvTable:
    """Header and rows of a CSV file; numbers have a decimal point, whatever the file has."""

    names: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


def parse_csv(
    text: str, name: str, wanted: Collection[str], texts: Collection[str], error: type[InputError]
) -> CsvTable:
    """Parse the text of a CSV file; every failure is raised as `error`, with `name` for the file.

    The separator is the one that gives most of the columns `wanted`; some may lack. Commas are kept in the
    columns `texts`, which hold names.
    """
    lines = text.removeprefix("\ufeff")
    if re.match(r"sep=.\r?\n", lines):  # written by spreadsheets for their own use
        lines = lines.partition("\n")[2]
    try:
        headers: dict[str, list[str]] = {mark: next(_reader(lines, mark), []) for mark in _DELIMITERS}
        delimiter = max(headers, key=lambda mark: (len(set(wanted) & set(headers[mark])), len(headers[mark])))
        rows = list(itertools.islice(_reader(lines, delimiter), _MAX_ROWS + 2))[1:]
    except csv.Error as reason:
        raise error(f"{name} is not a CSV file: {reason}") from reason
    names, rows = [cell.strip() for cell in headers[delimiter]], [row for row in rows if row]
    if len(names) == 1:
        raise error(
            f"{name} has one column, {names[0][:80]!r}: expected several, separated by "
            f"{', '.join(_DELIMITERS.values())}"
        )
    if len(rows) > _MAX_ROWS:
        raise error(f"{name} has more than {_MAX_ROWS} rows: expected at most those of a latency table")
    if len(set(names)) < len(names):
        raise error(f"{name} has duplicate columns: expected each once")
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise error(
                f"{name} row {number} has {len(row)} cells, expected {len(names)} as in the first line, "
                f"separated by {_DELIMITERS[delimiter]}"
            )
    if delimiter != ",":
        rows = _with_decimal_points(rows, [column not in texts for column in names], name, error)
    return CsvTable(tuple(names), tuple(dict(zip(names, row, strict=True)) for row in rows))


def _reader(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def _with_decimal_points(
    rows: list[list[str]], is_number: list[bool], name: str, error: type[InputError]
) -> list[list[str]]:
    """Replace decimal commas by points; a table with both is refused, since one of them groups thousands."""
    cells = [cell for row in rows for cell, number in zip(row, is_number, strict=True) if number]
    commas = next(filter(_COMMA_NUMBER.fullmatch, cells), None)
    points = next(filter(_POINT_NUMBER.fullmatch, cells), None)
    if commas is None:
        return rows
    if points is not None:
        raise error(
            f"{name} has numbers with a decimal comma ({commas.strip()}) and with a decimal point "
            f"({points.strip()}): expected one of them"
        )
    return [
        [
            cell.replace(",", ".") if number and _COMMA_NUMBER.fullmatch(cell) else cell
            for cell, number in zip(row, is_number, strict=True)
        ]
        for row in rows
    ]
