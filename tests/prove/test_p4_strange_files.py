"""P4: an untrusted Parquet file is read, or refused by a TableError, within 1 GB of memory."""

import random
from pathlib import Path

import pytest
from prove import strange_parquet as strange
from prove.proof import Proof
from prove.reader import READERS, Reader, reader


def read_or_refused(read: Reader, path: Path, what: str) -> str:
    try:
        return [read(name, path) for name in READERS][-1]
    except AssertionError as error:
        pytest.fail(f"{what}: {error}")


def test_crafted_files(tmp_path: Path, proof: Proof) -> None:
    good, path, canary = strange.ours(tmp_path / "ours"), tmp_path / "t", tmp_path / "canary"
    makers = (
        strange.no_parquet(),
        strange.strange_cells(),
        strange.extension_types(canary),
        strange.odd_metadata(good),
        strange.bombs(good),
    )
    tried = 0
    with reader() as read:
        for maker in makers:
            for name, content in maker:
                path.write_bytes(content)
                read_or_refused(read, path, f"{name} ({len(content)} bytes)")
                tried += 1
    assert not canary.exists(), "something in a file was run"
    proof.show(
        f"{tried} crafted files, 0 escaped errors, 0 deaths, longest {read.slowest_s:.1f} s, within 1 GB"
    )


def test_spliced_files(tmp_path: Path, proof: Proof) -> None:
    files, path = strange.good_files(strange.ours(tmp_path / "ours")), tmp_path / "t"
    count, refused = proof.count(300, prove=2000, long=100_000), 0
    with reader() as read:
        for seed in range(count):
            path.write_bytes(strange.spliced(files[seed % len(files)], random.Random(seed)))
            refused += read_or_refused(read, path, f"seed {seed}").startswith("refused")
    assert refused > count / 2
    proof.show(f"{count} spliced files, {refused} of them refused, 0 escaped errors, 0 deaths")
