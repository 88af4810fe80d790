import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from disk_events import disk_events

from jmsnas.errors import MeasurementError, StorageError, TableError
from jmsnas.profiler.table.journal import append_record, journal_path, read_journal, table_lock

RECORDS = [{"n": n, "x": n / 3} for n in range(5)]


def filled(path: Path) -> Path:
    for record in RECORDS:
        append_record(path, record)
    return path


def test_records_come_back(tmp_path: Path) -> None:
    path = journal_path(tmp_path / "tables" / "local.parquet")
    assert path.name == "local.parquet.journal"
    journal = read_journal(filled(path))
    assert list(journal.records) == RECORDS and not journal.damaged_lines


def test_no_file_is_no_records(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none").records == ()


def test_unterminated_last_line_of_any_length_is_dropped(tmp_path: Path) -> None:
    content = filled(tmp_path / "j").read_bytes()
    last = content.rstrip(b"\n").rindex(b"\n") + 1
    for length in range(last, len(content)):
        (tmp_path / "j").write_bytes(content[:length])
        journal = read_journal(tmp_path / "j")
        assert list(journal.records) == RECORDS[:-1] and not journal.damaged_lines


def test_every_changed_byte_in_the_middle_is_reported(tmp_path: Path) -> None:
    content = filled(tmp_path / "j").read_bytes()
    lines = content.split(b"\n")
    begin, end = len(lines[0]) + 1, len(lines[0]) + 1 + len(lines[1])
    for place in range(begin, end):
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "j").write_bytes(changed)
        journal = read_journal(tmp_path / "j")
        # A changed line end joins two lines, and a byte that becomes a line end makes two of one.
        assert journal.damaged_lines and set(journal.damaged_lines) <= {2, 3}
        assert [r for r in RECORDS if r not in journal.records] in (RECORDS[1:2], RECORDS[1:3])


def test_good_lines_behind_a_damaged_one_are_kept(tmp_path: Path) -> None:
    lines = filled(tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(
        b"".join((lines[0], lines[1][:9], b"\n", *lines[2:4], b"\0" * 40, b"\n", lines[4]))
    )
    journal = read_journal(tmp_path / "j")
    assert list(journal.records) == [RECORDS[n] for n in (0, 2, 3, 4)] and journal.damaged_lines == (2, 5)


@pytest.mark.parametrize("length", [1, 8, 9, 20])
def test_a_line_after_an_unterminated_one_is_kept(tmp_path: Path, length: int) -> None:
    lines = filled(tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join(lines[:2]) + lines[2][:length])
    append_record(tmp_path / "j", RECORDS[3])
    append_record(tmp_path / "j", RECORDS[4])
    journal = read_journal(tmp_path / "j")
    assert list(journal.records) == [RECORDS[n] for n in (0, 1, 3, 4)] and journal.damaged_lines == (3,)


def test_line_that_is_no_object_is_damage(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"4c2f32b8 [1]\nshort\n")
    assert read_journal(tmp_path / "j").damaged_lines == (1, 2)


def test_unreadable_journal(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    with pytest.raises(TableError, match=r"cannot read .*j: Is a directory. Move it away"):
        read_journal(tmp_path / "j")


def test_each_record_is_on_disk_when_it_is_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = disk_events(monkeypatch)
    filled(tmp_path / "j")
    assert events == [("fsync", (tmp_path / "j").stat().st_ino)] * len(RECORDS)


def test_full_disk_keeps_earlier_records(tmp_path: Path) -> None:
    # A limit on file size fails as a full disk does, in the middle of a line.
    path = filled(tmp_path / "j")
    code = (
        "import resource, sys; from pathlib import Path;"
        "from jmsnas.profiler.table.journal import append_record;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({path.stat().st_size + 10}, resource.RLIM_INFINITY));"
        f"append_record(Path({str(path)!r}), {{'n': 'x' * 50}})"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "StorageError: cannot write" in done.stderr and "File too large" in done.stderr
    assert list(read_journal(path).records) == RECORDS


def test_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*j: Is a directory"):
        append_record(tmp_path / "j", {})


@pytest.mark.parametrize("failing", ["write", "fsync"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_nth_failure_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, nth: int
) -> None:
    path, real, calls = tmp_path / "j", getattr(os, failing), 0

    def sometimes(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, failing, sometimes)
    kept = []
    with pytest.raises(StorageError, match="No space left on device"):
        for record in RECORDS:
            append_record(path, record)
            kept.append(record)
    assert len(kept) == nth - 1
    assert list(read_journal(path).records)[: len(kept)] == kept


_WRITER = """
import sys
from pathlib import Path
from jmsnas.profiler.table.journal import append_record
n = 0
while True:
    append_record(Path(sys.argv[1]), {"n": n, "padding": "x" * 500})
    print(n, flush=True)
    n += 1
"""


def test_kill_at_random_loses_no_acknowledged_record(tmp_path: Path) -> None:
    for trial in range(8):
        path = tmp_path / f"j{trial}"
        child = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.003 * trial + 0.001)
        child.kill()
        acknowledged = [0, *map(int, child.stdout.read().split())]
        child.wait()
        child.stdout.close()
        journal = read_journal(path)
        assert not journal.damaged_lines
        assert len(journal.records) >= len(acknowledged)
        assert [record["n"] for record in journal.records] == list(range(len(journal.records)))


_HOLDER = """
import sys, time
from pathlib import Path
from jmsnas.profiler.table.journal import table_lock
with table_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    table = tmp_path / "tables" / "local.parquet"
    child = subprocess.Popen([sys.executable, "-c", _HOLDER, str(table)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"held\n"
    with (
        pytest.raises(MeasurementError, match=rf"another profiler \(process {child.pid}\) is writing"),
        table_lock(table),
    ):
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with table_lock(table):
        lock = table.with_name(".local.parquet.lock").read_text()
        assert lock == f"{os.getpid()}\n"
    with table_lock(table):
        pass


def test_lock_in_an_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / ".t.lock").mkdir()
    with pytest.raises(StorageError, match="cannot write"), table_lock(tmp_path / "t"):
        pass


def test_line_is_checksum_and_json(tmp_path: Path) -> None:
    append_record(tmp_path / "j", {"a": 1})
    checksum, _, text = (tmp_path / "j").read_text().partition(" ")
    # CRC-32 of the eight bytes {"a": 1}
    assert (checksum, json.loads(text)) == ("fba18e97", {"a": 1})
