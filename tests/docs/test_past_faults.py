"""Every test that docs/past_faults.md names exists."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "past_faults.md").read_text()
NAMED = sorted(set(re.findall(r"`(?:tests/)?((?:\w+/)*test_\w+\.py(?:::\w+)?)`", PAGE)))


@pytest.mark.parametrize("name", NAMED)
def test_named_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert (TESTS / path).is_file()
    assert f"def {function}" in (TESTS / path).read_text()


def test_every_kind_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| (?!kind|fault)", line)]
    assert len(rows) > 60 and len(NAMED) > 40
    assert all(re.search(r"test_\w+\.py|proof\.py|\b[APS]\d+", row.split("|")[-2]) for row in rows)
