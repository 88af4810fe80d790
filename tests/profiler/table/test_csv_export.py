import csv
import io
from dataclasses import replace

from profiling_jobs import PART, a_row

from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.csv_export import table_to_csv
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.schema import SCHEMA
from jmsnas.space_file import load_space

TABLE = simulated_table("pi4", load_space("digits").blocks(), [RuntimeKey(), RuntimeKey("torch")])


def test_every_row_and_column_but_the_samples() -> None:
    records = list(csv.DictReader(io.StringIO(table_to_csv(TABLE))))
    assert list(records[0]) == [name for name in SCHEMA.names if name != "samples"]
    assert [float(record["median_s"]) for record in records] == [row.median_s for row in TABLE.rows]
    assert [record["candidate"] for record in records] == [row.block.candidate.name for row in TABLE.rows]
    assert {record["converged"] for record in records} == {"true"}


def test_source_with_commas_stays_one_cell() -> None:
    assert "," in TABLE.rows[0].source
    record = next(csv.DictReader(io.StringIO(table_to_csv(TABLE))))
    assert record["source"] == TABLE.rows[0].source


def test_parts_lists_and_missing_energy() -> None:
    part = replace(a_row(PART, (3.0, 3.1)), host_faults=("hot", "throttles"), energy_j=2.5e-4)
    table = LatencyTable("local", (a_row(),), {}, (part,))
    block, whole = csv.DictReader(io.StringIO(table_to_csv(table)))
    assert (block["part_blocks"], block["host_faults"], block["energy_j"]) == ("", "", "")
    assert whole["candidate"] == "part" and whole["part_blocks"] == " | ".join(map(str, PART.blocks))
    assert (whole["process_rounds"], whole["host_faults"]) == ("21 | 21", "hot | throttles")
    assert float(whole["energy_j"]) == 2.5e-4 and float(whole["ratio"]) == part.ratio
    assert (block["trust"], block["trust_reason"]) == ("yellow", "not rated")


def test_table_without_rows_is_a_header() -> None:
    assert table_to_csv(LatencyTable("pi4", (), {})).count("\n") == 1
