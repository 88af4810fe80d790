from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jmsnas.cli.output.search import print_result
from jmsnas.nas.derivation.target import BandStatus
from jmsnas.nas.run_result import read_result


def printed(capsys: pytest.CaptureFixture[str], folder: Path, **derived: Any) -> str:
    """What is printed of a finished run whose `derived` has other values."""
    run = read_result(folder)
    print_result(replace(run, derived=replace(run.derived, **derived)))
    return capsys.readouterr().out


def test_a_proof_that_was_given_up_says_its_bound(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = printed(capsys, run, in_band=True, optimal=False, score=-20.0, gap=1.5)
    assert "not proven the likeliest in the band; no model has a sum of log p above -18.50, this" in words
    assert "not proven" not in printed(capsys, run, in_band=True, optimal=True, gap=0.0)


def test_calls_and_their_absence_are_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_result(run)
    assert "T as in the paper: no cost of calls or hops" in printed(capsys, run)
    first, *others = found.topology.devices
    devices = (replace(first, call_s=2e-3), *others)
    terms = (replace(found.derived.terms[0], call_s=2e-3), *found.derived.terms[1:])
    derived = replace(found.derived, terms=terms)
    print_result(replace(found, topology=replace(found.topology, devices=devices), derived=derived))
    words = capsys.readouterr().out
    assert "+ 2 ms to call" in words and "T as in the paper" not in words


@pytest.mark.parametrize(
    ("band", "words"),
    [
        (BandStatus.EMPTY, "no model has T within 3 % below T_const: this is the best one below"),
        (BandStatus.UNDECIDED, "no model with T within 3 % below T_const was found within the search limit"),
        (None, "--derive argmax ignores T_const; --derive constrained does not"),
    ],
)
def test_why_t_is_not_in_the_band(
    run: Path, capsys: pytest.CaptureFixture[str], band: BandStatus | None, words: str
) -> None:
    assert words in printed(capsys, run, in_band=False, band=band)
