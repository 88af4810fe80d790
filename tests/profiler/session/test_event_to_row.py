import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from profiling_jobs import BLOCKS, EAGER, PART, a_measurement

from jmsnas.profiler.session.profiling_session import event_to_row
from jmsnas.profiler.table.latency_table import BlockRow, PartRow
from jmsnas.space import BlockOrPart

FOUND = replace(a_measurement(3.0, level_s=2e-4), drift=0.2, interrupted=0.1)
EVENT = json.loads(json.dumps({"row": 5, **asdict(FOUND)}))


@pytest.mark.parametrize(("subject", "kind"), [(BLOCKS[0], BlockRow), (PART, PartRow)])
def test_row_of_what_a_process_told(subject: BlockOrPart, kind: type) -> None:
    row = event_to_row(EVENT, "local", EAGER, subject, "abc", ("hot",))
    assert type(row) is kind and (row.device, row.key, row.block) == ("local", EAGER, subject)
    assert (row.kind, row.environment, row.host_faults) == ("measured", "abc", ("hot",))
    assert (row.ratio, row.ratio_low, row.ratio_high) == pytest.approx((3.0, 2.985, 3.015))
    # On its own level of 200 us, until it is folded in.
    assert (row.median_s, row.low_s, row.high_s) == pytest.approx((6e-4, 5.97e-4, 6.03e-4))
    assert (row.min_s, row.p90_s) == pytest.approx((5.97e-4, 6.03e-4))
    assert row.samples == FOUND.samples and row.process_rounds == (21,) and row.rounds == 21
    assert (row.reference_s, row.drift, row.interrupted, row.converged) == (2e-4, 0.2, 0.1, True)
    assert (row.trust, row.trust_reason, row.energy_j) == ("yellow", "not rated", None)


def test_row_says_when_and_by_what_it_was_measured() -> None:
    row = event_to_row(EVENT, "local", EAGER, BLOCKS[0], "abc", ())
    assert abs(datetime.now(UTC) - datetime.fromisoformat(row.measured_at)) < timedelta(minutes=1)
    assert row.source.startswith("jmsnas ")


@pytest.mark.parametrize("wrong", [{"samples": ["1.0"]}, {"ratio": None}, {"converged": 1}])
def test_event_with_a_wrong_field_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"at `\\$.{next(iter(wrong))}"):
        event_to_row({**EVENT, **wrong}, "local", EAGER, BLOCKS[0], "abc", ())
