from pathlib import Path
from typing import Any

import pytest

from jmsnas.cli.search_output import print_result
from jmsnas.nas.search.run_folder import read_result


def said(capsys: pytest.CaptureFixture[str], run: Path, drop: tuple[str, ...] = (), **derived: Any) -> str:
    """What is printed of a finished run whose `derived` has other values, or lacks some."""
    document = read_result(run)
    document["derived"] |= derived
    for key in drop:
        del document["derived"][key]
    print_result(document)
    return capsys.readouterr().out


def test_a_proof_that_was_given_up_says_its_bound(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = said(capsys, run, in_band=True, optimal=False, score=-20.0, gap=1.5)
    assert "not proven the likeliest in the band; no model has a sum of log p above -18.50, this" in words
    assert "not proven" not in said(capsys, run, in_band=True, optimal=True, gap=0.0)


@pytest.mark.parametrize(
    ("band", "words"),
    [
        ("empty", "no model has T within 3 % below T_const: this is the best one below"),
        ("undecided", "no model with T within 3 % below T_const was found within the search limit"),
        (None, "--derive argmax ignores T_const; --derive constrained does not"),
    ],
)
def test_why_t_is_not_in_the_band(
    run: Path, capsys: pytest.CaptureFixture[str], band: str | None, words: str
) -> None:
    assert words in said(capsys, run, in_band=False, band=band)


def test_a_run_of_an_earlier_version_says_what_it_holds(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = ("band", "gap")
    words = said(capsys, run, earlier, in_band=False, optimal=False)
    assert "  T is not within 3 % below T_const\n" in words
    words = said(capsys, run, earlier, in_band=True, optimal=False)
    assert "  not proven the likeliest in the band\n" in words
