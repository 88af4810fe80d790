import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lut_files import csv_text
from synthetic_published import a_record

from jmsnas.csv_file import parse_csv
from jmsnas.errors import InputError, TableError
from jmsnas.nas.split.general_topology import load_general_topology
from jmsnas.nas.split.problem_file import read_problem
from jmsnas.profiler.exchange.import_table import ImportRequest, import_table
from jmsnas.profiler.exchange.lut_csv import read_csv_records
from jmsnas.profiler.quality.read_published import read_published_records
from jmsnas.workspace import Workspace

CASES = Path(__file__).parent / "cases" / "tables"
COSTS = "layer,bytes,phone,server\ninput:uint8,150528,,\nstem,1605632,12.4ms,0.21ms\n"
COSTS += "head,4e3,1.5ms,0.05 \u00b5s\n"
FORMS = [(",", False), (";", False), (";", True), ("\t", False), ("\t", True)]


def in_form(text: str, delimiter: str, decimal_comma: bool, numbers_from: int) -> str:
    """Write a comma-separated table as a spreadsheet of another country does."""
    out = io.StringIO()
    rows = list(csv.reader(io.StringIO(text)))
    for row in rows[1:] if decimal_comma else ():
        row[numbers_from:] = [cell.replace(".", ",") for cell in row[numbers_from:]]
    csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize(("delimiter", "decimal_comma"), FORMS)
def test_costs_of_each_form_are_the_same_problem(delimiter: str, decimal_comma: bool, tmp_path: Path) -> None:
    topology = load_general_topology(str(CASES / "n.toml"))
    plain, other = tmp_path / "a" / "c.csv", tmp_path / "b" / "c.csv"
    for path, text in ((plain, COSTS), (other, in_form(COSTS, delimiter, decimal_comma, 1))):
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8-sig")
    (first, _), (second, _) = read_problem(plain, topology), read_problem(other, topology)
    assert (first.tau_NM == second.tau_NM).all() and first.tau_NM[1].tolist() == [1.5e-3, 5e-8]
    assert first.units == second.units and first.input_bytes == second.input_bytes


@pytest.mark.parametrize(("delimiter", "decimal_comma"), FORMS)
def test_tables_of_each_form_have_the_same_rows(delimiter: str, decimal_comma: bool, tmp_path: Path) -> None:
    text = csv_text([a_record(), a_record(expansion=6.0, latency_ms=0.75)])
    other = in_form(text, delimiter, False, 0)
    if decimal_comma:
        other = other.replace("3.0", "3,0").replace("6.0", "6,0").replace("0.", "0,")
    assert read_csv_records(other, "t") == read_csv_records(text, "t")
    for name, content in (("a.csv", text), ("b.csv", other)):
        (tmp_path / name).write_text(content)
    first, second = (read_published_records(tmp_path / name) for name in ("a.csv", "b.csv"))
    assert first == second and first[1]["latency_ms"] == 0.75 and first[0]["processor"] == "CPU, 2 threads"


@pytest.mark.parametrize("name", ["semi.csv", "semi_comma.csv"])
def test_table_of_semicolons_is_imported(name: str, tmp_path: Path) -> None:
    found = import_table(CASES / name, ImportRequest("b", force=True), Workspace(tmp_path))
    assert len(found.table.rows) == 20
    assert [row.median_s for row in found.table.rows[:2]] == pytest.approx([8.14e-5, 8.28e-5], rel=1e-12)


def test_first_line_of_a_spreadsheet_is_left_out() -> None:
    assert parse_csv("sep=;\r\na;b\r\n1,5;2\r\n", "t", ("a",), (), TableError).rows == (
        {"a": "1.5", "b": "2"},
    )


def test_names_keep_their_commas_and_semicolons() -> None:
    found = parse_csv('name;ms;after\n1,5;1,5;"a;b"\n', "t", ("name", "ms"), ("name", "after"), TableError)
    assert found.rows == ({"name": "1,5", "ms": "1.5", "after": "a;b"},)
    found = parse_csv("layer,bytes,after\nx,1,a;b;c;d\n", "t", ("layer", "bytes"), (), TableError)
    assert found.rows == ({"layer": "x", "bytes": "1", "after": "a;b;c;d"},)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a|b\n1|2\n", r"t has one column, 'a\|b': expected several, separated by commas, semicolons, tabs"),
        ("a;b\n1,5;2.5\n", r"decimal comma \(1,5\) and with a decimal point \(2.5\): expected one of them"),
        ("a\tb\n1,5\t2.5ms\n", r"decimal comma \(1,5\) and with a decimal point \(2.5ms\)"),
        ("a;b\n1\n", "t row 1 has 1 cells, expected 2 as in the first line, separated by semicolons"),
        ("a,b\n1,2,3\n", "t row 1 has 3 cells, expected 2 as in the first line, separated by commas"),
        ("a,a\n1,2\n", "t has duplicate columns"),
        ("a,b\n" + "x" * 200_000 + ",1\n", "t is not a CSV file: field larger than field limit"),
        ("a,b\n" + "1,2\n" * 50_001, "t has more than 50000 rows"),
    ],
)
def test_what_is_no_table_is_named(text: str, message: str) -> None:
    with pytest.raises(TableError, match=message) as error:
        parse_csv(text, "t", ("a", "b"), (), TableError)
    assert "\n" not in str(error.value)


@given(st.text(st.sampled_from('a1.,;\t"\n\r\x00 '), max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        found = parse_csv(text, "t", ("a", "b"), ("a",), TableError)
    except InputError:
        return
    assert all(set(row) == set(found.names) for row in found.rows)


def test_micro_sign_of_a_table_of_costs() -> None:
    problem, _ = read_problem(CASES / "c_mu.csv", load_general_topology(str(CASES / "n.toml")))
    assert problem.tau_NM[1].tolist() == [6e-3, 1e-4]
