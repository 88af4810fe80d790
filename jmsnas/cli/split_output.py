"""What `jmsnas split` says: one JSON document, or lines for people."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jmsnas.cli.split_words import explanation_lines, rate_text, step_text
from jmsnas.errors import InfeasibleError, JmsnasError
from jmsnas.nas.split.explain import explain_split
from jmsnas.nas.split.methods import SplitRequest, SplitResult, split
from jmsnas.nas.split.problem import SplitProblem, as_chain
from jmsnas.nas.split.rate_sweep import RateLine, RateSweep, parse_rate_sweep, sweep_rate
from jmsnas.units import format_duration as ms
from jmsnas.units import parse_duration


def split_document(
    costs: SplitProblem,
    questions: Sequence[SplitRequest],
    deadline: str | None,
    swept: str | None,
    explained: bool,
) -> dict[str, Any]:
    """Answer the questions and put all of it into one document; seconds, bytes, bits per second, joules.

    Raises
    ------
    InputError
        When a question cannot be answered. With several, those that do not fit the network say why instead.
    """
    deadline_s = parse_duration(deadline) if deadline is not None else None
    answers = [_answer(costs, request, len(questions) > 1) for request in questions]
    clouds = {name: _cloud_s(costs, questions[0], name) for name in costs.input_bytes}
    document: dict[str, Any] = {
        "network": costs.model,
        "units": list(costs.units),
        "devices": [
            {
                "name": d.name,
                "simulated": d.name in costs.simulated,
                "published": d.name in costs.published,
                "rests_on": costs.provenance.get(d.name, ""),
            }
            for d in costs.devices
        ],
        "links": [asdict(link) for link in costs.links],
        "input": questions[0].encoding,
        "input_bytes": dict(costs.input_bytes),
        "policy": questions[0].policy,
        "objective": questions[0].objective,
        "cloud_only_s": {name: seconds for name, seconds in clouds.items() if seconds is not None},
        "energy_not_counted": list(costs.unpowered),
        "answers": [its if isinstance(its, dict) else _plan(costs, its) for its in answers],
    }
    first = answers[0]
    if isinstance(first, SplitResult) and (explained or deadline_s is not None):
        document["explanation"] = asdict(explain_split(costs, first, deadline_s)) | {"deadline_s": deadline_s}
    if swept is not None:
        chain, counts = (costs, (1,)) if costs.fork else as_chain(costs)
        found = sweep_rate(chain, questions[0], *parse_rate_sweep(swept, chain))
        document["sweep"] = _sweep(chain, found) | {"joined_units": max(counts) > 1}
    return document


def _answer(costs: SplitProblem, request: SplitRequest, several: bool) -> SplitResult | dict[str, Any]:
    try:
        return split(costs, request)
    except JmsnasError as error:
        if not several:
            raise
        return {"method": request.method, "refused": str(error)}


def _cloud_s(costs: SplitProblem, request: SplitRequest, encoding: str) -> float | None:
    """T of cloud only; None where the cloud cannot run every unit."""
    try:
        return split(
            costs, replace(request, method="cloud", encoding=encoding, min_layers=0)
        ).timeline.latency_s
    except InfeasibleError:
        return None


def finite_json(document: dict[str, Any]) -> dict[str, Any]:
    """Give the document as JSON can hold it: null for what is infinite."""
    found: dict[str, Any] = json.loads(json.dumps(document), parse_constant=lambda name: None)
    return found


def _plan(costs: SplitProblem, answer: SplitResult) -> dict[str, Any]:
    told = answer.timeline
    return {
        "method": answer.request.method,
        "latency_s": told.latency_s,
        "low_s": told.low_s,
        "high_s": told.high_s,
        "period_s": told.period_s,
        "energy_j": told.energy_j,
        "proven": answer.proven,
        "bound": answer.bound,
        "allowed": answer.allowed,
        "devices": [costs.names[m] for m in answer.devices],
        "cuts": _cuts(costs, answer.devices),
        "steps": [asdict(step) for step in told.steps],
        "critical": [asdict(step) for step in told.critical_path],
        "back": [asdict(step) for step in told.return_steps],
    }


def _cuts(costs: SplitProblem, placed: Sequence[int]) -> list[int] | None:
    """Cuts of equation (1) where the devices stand in line and no layer goes back."""
    devices = list(placed)
    if not costs.is_chain_topology or not costs.is_chain or devices != sorted(devices):
        return None
    return [sum(device <= m for device in devices) for m in range(costs.M)]


def _sweep(costs: SplitProblem, found: RateSweep) -> dict[str, Any]:
    def line(its: RateLine) -> dict[str, Any]:
        layers = {costs.names[m]: its.devices.count(m) for m in dict.fromkeys(its.devices)}
        ends = {"low_s": its.latency_s(found.low_bps), "high_s": its.latency_s(found.high_bps)}
        return {
            "cuts": _cuts(costs, its.devices),
            "layers": layers,
            "at_low_s": ends["low_s"],
            "at_high_s": ends["high_s"],
        }

    return {
        "link": found.link,
        "low_bps": found.low_bps,
        "high_bps": found.high_bps,
        "plans": [
            {"from_bps": rate, "latency_s": its.latency_s(rate)} | line(its) for rate, its in found.switches
        ],
        "least_worst_case": line(found.worst_case),
        "least_regret": line(found.least_regret) | {"regret_s": found.regret_s},
    }


def draw_trade_offs(costs: SplitProblem, request: SplitRequest, folder: Path) -> list[Path]:
    """Draw the trade-offs into a folder; gives the files."""
    from jmsnas.report.tradeoff_plots import write_pictures

    return write_pictures(costs, request, folder)


def print_split(document: dict[str, Any]) -> None:
    """Print what `split_document` gave."""
    for line in _lines(document):
        print(line)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    size = document["input_bytes"][document["input"]]
    yield (
        f"{document['network']}, {len(document['units'])} layers, input {document['input']} ({size:.0f} B), "
        f"policy {document['policy']}, objective {document['objective']}"
    )
    for device in document["devices"]:
        yield f"  {device['name']:<10}{device['rests_on']}"
    answers = document["answers"]
    if len(answers) == 1:
        yield from _answer_lines(document, answers[0])
    else:
        yield from _table(answers)
    clouds = ", ".join(f"{name} {ms(seconds)}" for name, seconds in document["cloud_only_s"].items())
    yield f"Cloud only, by input: {clouds or 'the last device cannot run all layers'}"
    if "explanation" in document:
        yield from explanation_lines(document, document["explanation"])
    if "sweep" in document:
        yield from _sweep_lines(document["sweep"])


def _answer_lines(document: dict[str, Any], plan: dict[str, Any]) -> Iterator[str]:
    for step in plan["steps"]:
        yield f"  {step_text(step)}"
    for step in plan["back"]:
        yield f"  {step_text(step)}, back"
    interval = f" ({ms(plan['low_s'])} to {ms(plan['high_s'])})" if plan["low_s"] < plan["high_s"] else ""
    yield f"T = {ms(plan['latency_s'])}{interval}, an image every {ms(plan['period_s'])}"
    if plan["energy_j"] is not None:
        without = document["energy_not_counted"]
        yield f"Energy {plan['energy_j'] * 1e3:.4g} mJ" + (
            f", not of {', '.join(without)}" if without else ""
        )
    if plan["method"] == "optimal":
        if plan["proven"]:
            yield "Proven: no split the policy allows is better."
        elif plan["bound"] is not None:
            yield f"Not proven in time: no split is below {plan['bound']:.6g}"
        else:
            yield "Not proven: the best found where all of the network passes through one output."
    if not plan["allowed"]:
        yield f"Not a split of policy {document['policy']}."


def _table(answers: list[dict[str, Any]]) -> Iterator[str]:
    yield f"  {'method':<14}{'T':>12}{'image every':>14}  layers by device"
    for plan in answers:
        if "refused" in plan:
            yield f"  {plan['method']:<14}{'-':>12}  {plan['refused']}"
            continue
        names = list(dict.fromkeys(plan["devices"]))
        layers = ", ".join(f"{name} {plan['devices'].count(name)}" for name in names)
        marks = ("  proven" if plan["proven"] else "") + ("" if plan["allowed"] else "  (not of this policy)")
        yield f"  {plan['method']:<14}{ms(plan['latency_s']):>12}{ms(plan['period_s']):>14}  {layers}{marks}"


def _sweep_lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"Plans by the rate of {found['link']}:"
    for plan in found["plans"]:
        layers = ", ".join(f"{name} {count}" for name, count in plan["layers"].items())
        yield f"  from {rate_text(plan['from_bps']):>14}: {ms(plan['latency_s'])} there, {layers}"
    for key, words in (("least_worst_case", "Least worst case"), ("least_regret", "Least regret")):
        plan = found[key]
        layers = ", ".join(f"{name} {count}" for name, count in plan["layers"].items())
        lost = f", loses {ms(plan['regret_s'])} at most" if "regret_s" in plan else ""
        yield f"{words}: {layers}; {ms(plan['at_low_s'])} to {ms(plan['at_high_s'])}{lost}"
    if found["joined_units"]:
        yield "  cuts where all of the network passes through one output"
