import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from profiling_jobs import EAGER, a_row

from jmsnas.errors import InputError, MeasurementError
from jmsnas.profiler.host.environment import describe_host, environment_id
from jmsnas.profiler.session import breakdowns as breakdowns_of
from jmsnas.profiler.session.breakdowns import (
    STAGES,
    add_stages_to_table,
    profile_breakdowns,
    sum_of_stages_s,
    write_breakdowns,
)
from jmsnas.profiler.table.journal import table_lock
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.table.merge_journal import merge_rows
from jmsnas.profiler.table.parquet import read_table, write_table
from jmsnas.profiler.timing.onnx_export import seeded_module
from jmsnas.profiler.timing.torchprof_backend import Breakdown, layer_stages
from jmsnas.space import HEAD, IDENTITY, STEM, Block, Candidate, Layer

SAME = Layer(8, 8, 1, 4, 4)
SKIP = Block(Candidate(3, 3, True), SAME)
PLAIN = Block(Candidate(5, 3), SAME)
HEAD_BLOCK = Block(HEAD, Layer(8, 10, 1, 2, 2, "head", 16))
FOUND = (
    Breakdown(SKIP, (("expand", 1e-5), ("depthwise", 3e-5), ("project", 1e-5), ("add", 2e-6)), 5e-5),
    Breakdown(HEAD_BLOCK, (("head_conv", 1e-5), ("head_pool", 2e-5), ("head_dense", 3e-5)), 6e-5),
)


def written(path: Path) -> dict[str, Any]:
    return write_breakdowns(path, "pi4", FOUND, {"cpu": "Cortex-A72"})


def test_every_block_but_identity_in_order() -> None:
    steps: list[tuple[float, float]] = []
    blocks = [SKIP, Block(IDENTITY, SAME), HEAD_BLOCK, PLAIN]
    found = profile_breakdowns(blocks, runs=1, progress=lambda done, total, what: steps.append((done, total)))
    assert [each.block for each in found] == [SKIP, HEAD_BLOCK, PLAIN]
    assert steps == [(step, 6) for step in range(7)], "five rounds of warm-up and one that counts"
    # The median of one run is that run, and torchprof's total is without the addition.
    skip, head, _ = found
    assert sum_of_stages_s(head) == pytest.approx(head.total_s)
    assert sum_of_stages_s(skip) == pytest.approx(skip.total_s + dict(skip.stages)["add"])


def test_medians_over_rounds_in_another_order_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[Block] = []

    # The n-th run takes n us in its expansion, 1 us in its addition.
    def seen(block: Block, *more: object) -> dict[str, float]:
        order.append(block)
        return {"expand": order.count(block) * 1e-6, "add": 1e-6}

    monkeypatch.setattr(breakdowns_of, "stage_latency_s", seen)
    found = profile_breakdowns([SKIP, PLAIN, HEAD_BLOCK], runs=3, seed=1)
    # Runs 6, 7 and 8 count.
    assert [dict(each.stages) for each in found] == [{"expand": 7e-6, "add": 1e-6}] * 3
    assert [each.total_s for each in found] == pytest.approx([7e-6] * 3)
    rounds = [tuple(order[at : at + 3]) for at in range(0, 24, 3)]
    assert all({*one} == {SKIP, PLAIN, HEAD_BLOCK} for one in rounds) and len({*rounds}) > 1


def test_rows_of_this_host_in_eager_torch_get_their_stages(tmp_path: Path) -> None:
    path, here = tmp_path / "local.parquet", describe_host()
    assert add_stages_to_table("local", path, FOUND, print) == 0 and not list(tmp_path.iterdir())
    keys = (EAGER, RuntimeKey("torch", timer="torchprof"), RuntimeKey(), RuntimeKey("torch", batch=2))
    rows = [replace(a_row(SKIP, key=key), environment=environment_id(here)) for key in keys]
    rows.append(replace(a_row(PLAIN), environment=environment_id(here)))
    rows.append(replace(a_row(HEAD_BLOCK), environment="another"))
    environments = {environment_id(here): here, "another": {"cpu": "another"}}
    write_table(path, merge_rows("local", rows, environments))
    before = read_table(path)
    assert add_stages_to_table("local", path, FOUND, print) == 2
    after = {row.key: row for row in read_table(path).rows if row.block == SKIP}
    for key in keys[:2]:
        assert after[key].stages == ("expand", "depthwise", "project", "add")
        assert after[key].stages_s == (1e-5, 3e-5, 1e-5, 2e-6)
    stripped = tuple(replace(row, stages=(), stages_s=()) for row in read_table(path).rows)
    assert stripped == before.rows, "and nothing else has changed"
    with table_lock(path), pytest.raises(MeasurementError, match="another profiler"):
        add_stages_to_table("local", path, FOUND, print)


def test_refused_block_is_told_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # A shortcut that adds in place runs aten::add_, which torchprof's path does not show as an addition.
    monkeypatch.setattr("jmsnas.blocks.MBConv.forward", lambda self, x: self.layers(x).add_(x))
    reported: list[str] = []
    assert [each.block for each in profile_breakdowns([SKIP, HEAD_BLOCK], runs=1, warn=reported.append)] == [
        HEAD_BLOCK
    ]
    (line,) = reported
    assert line.startswith(f"{SKIP} is left out of the breakdown: torchprof measured 0 additions")
    assert "\n" not in line


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(MeasurementError, match="none of 1 blocks was broken down: expected one or more that"):
        profile_breakdowns([Block(IDENTITY, SAME)])
    with pytest.raises(InputError, match="cannot take the median of 0 runs: expected 1 or more"):
        profile_breakdowns([PLAIN], runs=0)


def test_stages_are_those_of_torchprof_backend() -> None:
    stem = Block(STEM, Layer(1, 8, 1, 8, 8, "stem"))
    names = [layer_stages(block, seeded_module(block)).values() for block in (PLAIN, stem, HEAD_BLOCK)]
    assert {name for stages in names for name in stages} | {"add"} == set(STAGES)


def test_the_file_holds_what_a_reader_needs(tmp_path: Path) -> None:
    document = written(tmp_path / "pi4.breakdown.json")
    assert json.loads((tmp_path / "pi4.breakdown.json").read_text()) == document
    blocks = document.pop("blocks")
    assert document == {
        "schema_version": 1,
        "device": "pi4",
        "timer": "torchprof 0.3.0 (hooks add to every layer)",
        "environment": {"cpu": "Cortex-A72"},
    }
    stages = {"head_conv": 1e-5, "head_pool": 2e-5, "head_dense": 3e-5}
    assert blocks[1] == {"block": "head 8->10 2x2 h16", "total_s": 6e-5, "stages": stages}
