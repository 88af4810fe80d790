import re
import types
from pathlib import Path

from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK, RuntimeKey
from jmsnas.profiler.timing.backends import pinned
from jmsnas.space import Candidate, Part

PAGE = Path(__file__).parents[2] / "docs" / "runtimes.md"


def test_runtime_of_the_guide_runs(tmp_path: Path) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    guide = types.ModuleType("guide")
    exec(compile(source, str(PAGE), "exec"), guide.__dict__)
    larger = type(REFERENCE_BLOCK)(Candidate(7, 6), REFERENCE_BLOCK.layer)
    key, done_counts = RuntimeKey("torch"), list[float]()
    subjects = [REFERENCE_BLOCK, larger, Part((REFERENCE_BLOCK, larger))]
    calls = guide.prepare(subjects, key, tmp_path, 0, lambda done, of, what: done_counts.append(done))
    with pinned(key):
        assert len(calls) == 3 and all(timed(20) > 0 for timed in calls)
    assert done_counts == [0, 1, 2]
