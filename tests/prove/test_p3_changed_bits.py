"""P3: a changed bit and a missing end of a table are detected."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from profiling_jobs import a_row
from prove.proof import Proof
from prove.reader import Reader, reader
from prove.synthetic_blocks import synthetic_blocks

from jmsnas.profiler.table.latency_table import LatencyTable
from jmsnas.profiler.table.parquet import write_table

ROWS, SAMPLES = 60, 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A table of about 60 kB."""
    generator, rows = random.Random(0), []
    for block in synthetic_blocks(ROWS):
        samples = tuple(1 + 0.01 * generator.random() for _ in range(SAMPLES))
        rows.append(replace(a_row(block), samples=samples, process_rounds=(SAMPLES,)))
    table = LatencyTable("local", tuple(rows), {"abc": {"cpu": "a test's"}})  # type: ignore[arg-type]
    write_table(tmp_path / "local.parquet", table)
    return tmp_path / "local.parquet"


def noticed(read: Reader, path: Path, whole: str, what: str) -> bool:
    """Return whether a changed table was refused; fails where it gives another table or kills the reader."""
    try:
        found = read("read_table", path)
    except AssertionError as error:
        pytest.fail(f"{what}: {error}")
    if found.startswith("refused"):
        return True
    assert found == whole, f"{what}: read as another table"
    return False


def test_changed_bits(path: Path, proof: Proof) -> None:
    size, flips, refused = path.stat().st_size, proof.count(500, prove=3000, long=100_000), 0
    with reader() as read, path.open("r+b", buffering=0) as file:
        whole = read("read_table", path)
        for seed in range(flips):
            generator = random.Random(seed)
            place = generator.randrange(size)
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1 << generator.randrange(8)]))
            refused += noticed(read, path, whole, f"seed {seed}, byte {place}")
            file.seek(place)
            file.write(bytes([byte]))
        assert whole.startswith("read") and read("read_table", path) == whole
    proof.show(
        f"{flips} flips in {size} bytes: {refused} refused, {flips - refused} harmless, 0 silent, 0 crashes"
    )


def test_missing_end(path: Path, proof: Proof) -> None:
    content = path.read_bytes()
    lengths = range(0, len(content), len(content) // proof.count(50, prove=200, long=len(content)))
    with reader() as read:
        whole = read("read_table", path)
        for length in reversed(lengths):
            with path.open("r+b") as file:
                file.truncate(length)
            assert noticed(read, path, whole, f"cut at {length}"), f"cut at {length}: read all the same"
    proof.show(f"cut at {len(lengths)} lengths: all refused")
