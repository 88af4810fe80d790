"""Verdict of `jmsnas split --explain` over all policies: a JSON document, printed as text."""

from collections.abc import Iterator, Sequence
from typing import Any

from jmsnas.cli.output.split_steps import layers_text
from jmsnas.cli.terminal import table_lines
from jmsnas.nas.inspection.verdict import Alternative, Ranking, list_alternatives, rank
from jmsnas.nas.split.methods import SplitRequest, SplitResult
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.units import format_duration as ms


def verdict_document(problem: SplitProblem, request: SplitRequest, known: SplitResult) -> dict[str, Any]:
    """Describe all alternatives, the fastest for each encoding of the input, and the fastest of all."""
    found = list_alternatives(problem, request, known)
    return {
        "alternatives": [
            _alternative_document(k) | {"reason": k.reason, "bound_s": k.bound_s} for k in found
        ],
        "by_input": {
            encoding: _ranking_document(rank(k for k in found if k.encoding == encoding))
            for encoding in problem.input_bytes
        },
        "overall": _ranking_document(rank(found)),
        "by_branches": problem.fork is not None and request.budget_j is None,
    }


def _alternative_document(found: Alternative) -> dict[str, Any]:
    layers = {name: found.devices.count(name) for name in dict.fromkeys(found.devices)}
    own = {"name": found.name, "input": found.encoding, "latency_s": found.latency_s}
    return own | {"layers": layers, "is_split": found.is_split}


def _ranking_document(ranking: Ranking) -> dict[str, Any]:
    return {
        "fastest": [_alternative_document(k) for k in ranking.fastest],
        "others": [
            _alternative_document(k.alternative) | {"more_s": k.more_s, "more_share": k.more_share}
            for k in ranking.others
        ],
    }


def verdict_lines(verdict: dict[str, Any]) -> Iterator[str]:
    """Format the document of `verdict_document`."""
    rows, encodings = verdict["alternatives"], list(verdict["by_input"])
    yield "T by alternative and input (device only: the result stays there; JPEG: without its decoding):"
    table = []
    for name in dict.fromkeys(row["name"] for row in rows):
        times = {row["input"]: row["latency_s"] for row in rows if row["name"] == name}
        table.append([name, *("-" if times[k] is None else ms(times[k]) for k in encodings)])
    yield from table_lines([("", "<12"), *((encoding, ">12") for encoding in encodings)], table, "  ")
    for reason, names in _reasons(rows).items():
        yield f"  -: {', '.join(names)}: {reason}"
    for row in rows:
        if row["latency_s"] is not None and (row["bound_s"] or 0.0) < row["latency_s"] * (1 - 1e-9):
            bound = "" if row["bound_s"] is None else f": none is below {ms(row['bound_s'])}"
            yield f"  {row['name']}, {row['input']}: not proven the optimum{bound}"
    if verdict["by_branches"]:
        yield "  strict, relay, stop-early: with each branch on a child of the mesh"
    for encoding in encodings:
        ranking = verdict["by_input"][encoding]
        yield f"Fastest with a {encoding} input: {_fastest_text(ranking, False)}"
        if others := [_more_text(row) for row in ranking["others"]]:
            yield f"  {', '.join(others)}"
    if len(encodings) > 1:
        yield f"Fastest of all: {_fastest_text(verdict['overall'], True)}"


def _reasons(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["latency_s"] is None and row["name"] not in found.setdefault(row["reason"], []):
            found[row["reason"]].append(row["name"])
    return found


def _fastest_text(ranking: dict[str, Any], with_input: bool) -> str:
    """Format the fastest alternatives, those of the same layers together."""
    if not ranking["fastest"]:
        return "none is possible"
    plans: dict[str, list[str]] = {}
    for row in ranking["fastest"]:
        what = f"{layers_text(row['layers'])} ({'a split' if row['is_split'] else 'one device, no split'})"
        plans.setdefault(what, []).append(_name(row, with_input))
    each = [f"{what}, as {', '.join(dict.fromkeys(names))}" for what, names in plans.items()]
    tie = "tie of " if len(each) > 1 else ""
    return f"{ms(ranking['fastest'][0]['latency_s'])}, {tie}{' and '.join(each)}"


def _more_text(row: dict[str, Any]) -> str:
    share = "" if row["more_share"] is None else f" ({row['more_share']:.2%})"
    return f"{row['name']} takes {ms(row['more_s'])}{share} more"


def _name(row: dict[str, Any], with_input: bool) -> str:
    return (
        f"{row['name']} with {row['input']}" if with_input and row["name"] != "device only" else row["name"]
    )
