"""Results of `jmsnas split`: one JSON document, printed as text."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from jmsnas.cli.output.split_comparison import comparison_document, comparison_lines, cuts_of, use_document
from jmsnas.cli.output.split_explanation import explanation_lines
from jmsnas.cli.output.split_steps import interval_text, layers_text, rate_text, step_text
from jmsnas.cli.output.split_verdict import verdict_document
from jmsnas.cli.split_arguments import SplitArguments
from jmsnas.cli.split_input import SplitInput
from jmsnas.cli.terminal import print_line, table_lines
from jmsnas.errors import JmsnasError
from jmsnas.nas.inspection.explain import explain_split, single_device_s
from jmsnas.nas.inspection.given_split import evaluate_split
from jmsnas.nas.split.methods import SplitRequest, SplitResult, split
from jmsnas.nas.split.problem import SplitProblem, as_chain
from jmsnas.nas.split.rate_sweep import RateLine, RateSweep, parse_rate_sweep, sweep_rate
from jmsnas.topology import uncounted_costs
from jmsnas.units import format_duration as ms
from jmsnas.units import parse_duration

_METHOD_COLUMNS = (("method", "<14"), ("T", ">12"), ("image every", ">14"), ("  layers by device", ""))


def split_document(
    loaded: SplitInput, requests: Sequence[SplitRequest], args: SplitArguments
) -> dict[str, Any]:
    """Solve the requests and describe the results; seconds, bytes, bits per second, joules.

    Raises InputError when the only request cannot be solved; one of several has its error message as
    `error` instead.
    """
    problem = loaded.problem
    deadline_s = parse_duration(args.deadline) if args.deadline is not None else None
    first, given = requests[0], None
    if first.placement is not None:
        given = evaluate_split(problem, first, first.placement)
        results: list[SplitResult | str] = [given.given]
    else:
        results = [_solve(problem, request, len(requests) > 1) for request in requests]
    cloud_s = {
        name: single_device_s(problem, replace(first, encoding=name), problem.M - 1)
        for name in problem.input_bytes
    }
    document: dict[str, Any] = {
        "model": problem.model,
        "units": list(problem.units),
        "devices": [
            {
                "name": d.name,
                "simulated": d.name in problem.simulated,
                "published": d.name in problem.published,
                "provenance": problem.provenance.get(d.name, ""),
                "call_s": d.call_s,
            }
            for d in problem.devices
        ],
        "links": [asdict(link) for link in problem.links],
        "uncounted_costs": uncounted_costs(problem.devices, problem.links),
        "input": first.encoding,
        "input_bytes": dict(problem.input_bytes),
        "batch": problem.batch,
        "policy": first.policy,
        "policy_reason": loaded.policy_reason,
        "by_branches": problem.fork is not None and first.objective == "latency" and first.budget_j is None,
        "objective": first.objective,
        "cloud_only_s": {name: seconds for name, seconds in cloud_s.items() if seconds < float("inf")},
        "energy_not_counted": list(problem.unpowered),
        "results": [
            {"method": request.method, "error": result}
            if isinstance(result, str)
            else _result_document(problem, result)
            for request, result in zip(requests, results, strict=True)
        ],
    }
    if loaded.derived is not None:
        derived = loaded.derived
        document["derivation"] = {
            "t_const_s": derived.t_const_s,
            "candidates": list(derived.names),
            "score": derived.score,
            "score_bound": derived.bound,
            "proven": derived.proven,
            "latency_s": derived.latency_s,
        }
    if any(isinstance(k, SplitResult) and not k.allowed for k in results[1:]) and first.policy == "strict":
        relay = _solve(problem, replace(first, policy="relay"), True)
        document["relay_optimum"] = None if isinstance(relay, str) else _result_document(problem, relay)
    if given is not None:
        document["comparison"] = comparison_document(problem, given)
    if isinstance(results[0], SplitResult) and (args.explain or deadline_s is not None):
        explanation = asdict(explain_split(problem, results[0], deadline_s))
        document["explanation"] = explanation | {"deadline_s": deadline_s}
        document["verdict"] = verdict_document(problem, first, results[0])
    if args.sweep is not None:
        chain, counts = (problem, (1,)) if problem.fork else as_chain(problem)
        sweep = sweep_rate(chain, first, *parse_rate_sweep(args.sweep, chain))
        document["sweep"] = _sweep_document(chain, sweep) | {"joined_units": max(counts) > 1}
    return document


def _solve(problem: SplitProblem, request: SplitRequest, several: bool) -> SplitResult | str:
    """Solve a request; of several, an error is returned as its message."""
    try:
        return split(problem, request)
    except JmsnasError as error:
        if not several:
            raise
        return str(error)


def finite_json(document: dict[str, Any]) -> dict[str, Any]:
    """Replace infinities by null, which JSON can represent."""
    return dict(json.loads(json.dumps(document), parse_constant=lambda name: None))


def _result_document(problem: SplitProblem, result: SplitResult) -> dict[str, Any]:
    timeline = result.timeline
    return {
        "method": result.request.method,
        "latency_s": timeline.latency_s,
        "low_s": timeline.low_s,
        "high_s": timeline.high_s,
        "period_s": timeline.period_s,
        "energy_j": timeline.energy_j,
        "proven": result.proven,
        "bound": result.bound,
        "allowed": result.allowed,
        "violations": list(result.violations),
        "use": use_document(problem, result),
        "devices": [problem.names[m] for m in result.devices],
        "cuts": cuts_of(problem, result.devices),
        "steps": [asdict(step) for step in timeline.steps],
        "critical_path": [asdict(step) for step in timeline.critical_path],
        "return_path": [asdict(step) for step in timeline.return_steps],
    }


def _sweep_document(problem: SplitProblem, sweep: RateSweep) -> dict[str, Any]:
    def plan(line: RateLine) -> dict[str, Any]:
        return {
            "cuts": cuts_of(problem, line.devices),
            "layers": {problem.names[m]: line.devices.count(m) for m in dict.fromkeys(line.devices)},
            "at_low_s": line.latency_s(sweep.low_bps),
            "at_high_s": line.latency_s(sweep.high_bps),
        }

    return {
        "link": sweep.link,
        "low_bps": sweep.low_bps,
        "high_bps": sweep.high_bps,
        "plans": [
            {"from_bps": rate, "latency_s": line.latency_s(rate)} | plan(line)
            for rate, line in sweep.switches
        ],
        "least_worst_case": plan(sweep.worst_case),
        "least_regret": plan(sweep.least_regret) | {"regret_s": sweep.regret_s},
    }


def print_split(document: dict[str, Any]) -> None:
    """Print the document of `split_document`."""
    for line in _lines(document):
        print_line(line)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    size, batch = document["input_bytes"][document["input"]], document["batch"]
    yield (
        f"{document['model']}, {len(document['units'])} layers, {f'batch {batch}, ' if batch > 1 else ''}"
        f"input {document['input']} ({size:.0f} B), "
        f"policy {document['policy']}, objective {document['objective']}"
    )
    if document["policy_reason"]:
        yield f"  policy {document['policy']}, as {document['policy_reason']}"
    for device in document["devices"]:
        yield f"  {device['name']:<10}{device['provenance']}"
    if "derivation" in document:
        yield from _derivation_lines(document["derivation"])
    results = document["results"]
    if len(results) == 1:
        yield from _result_lines(document, results[0])
        if "comparison" in document:
            yield from comparison_lines(document)
    else:
        yield from _method_table(document)
    if document["uncounted_costs"]:
        yield document["uncounted_costs"]
    clouds = ", ".join(f"{name} {ms(seconds)}" for name, seconds in document["cloud_only_s"].items())
    yield f"Cloud only, by input: {clouds or 'the last device cannot run all layers'}"
    if "explanation" in document:
        yield from explanation_lines(document, document["explanation"])
    if "sweep" in document:
        yield from _sweep_lines(document["sweep"])


def _derivation_lines(derivation: dict[str, Any]) -> Iterator[str]:
    chosen = [f"{n} {name}" for n, name in enumerate(derivation["candidates"], 1) if name]
    t_const = ms(derivation["t_const_s"])
    yield f"Candidates of T <= {t_const}, by layer: {', '.join(chosen) or 'none to choose'}"
    proof = "proven the highest" if derivation["proven"] else f"none is above {derivation['score_bound']:.6g}"
    yield f"  score {derivation['score']:.6g}, {proof}"


def _result_lines(document: dict[str, Any], result: dict[str, Any]) -> Iterator[str]:
    for step in result["steps"]:
        yield f"  {step_text(step)}"
    for step in result["return_path"]:
        yield f"  {step_text(step)}, return path"
    images = "an image" if document["batch"] == 1 else f"a batch of {document['batch']} images"
    yield f"T = {ms(result['latency_s'])}{interval_text(result)}, {images} every {ms(result['period_s'])}"
    if result["energy_j"] is not None:
        without = document["energy_not_counted"]
        yield f"Energy {result['energy_j'] * 1e3:.4g} mJ" + (
            f", without {', '.join(without)}" if without else ""
        )
    if result["method"] == "optimal":
        if result["proven"]:
            yield f"Proven optimal: no split of policy {document['policy']} is better{_scope(document)}."
        elif result["bound"] is not None:
            yield f"Not proven within the time limit: no split is below {result['bound']:.6g}"
        else:
            yield "Not proven: the best split found among cuts of a single tensor."
    for reason in result["violations"]:
        yield f"Not allowed: {reason}."


def _scope(document: dict[str, Any]) -> str:
    """Format which splits a policy is about on a mesh, where cloud only is none of them."""
    return " with each branch on a child of the mesh" if document["by_branches"] else ""


def _method_table(document: dict[str, Any]) -> Iterator[str]:
    """Format one row per method; splits that are not allowed are listed after the others."""
    results, policy = document["results"], document["policy"]
    rows: list[tuple[str, ...]] = []
    for plan in results:
        if "error" in plan:
            rows.append((plan["method"], "-", "", f"  {plan['error']}"))
        elif plan["allowed"]:
            rows.append(_method_row(plan, f"  proven optimum of policy {policy}" * plan["proven"]))
    yield from table_lines(_METHOD_COLUMNS, rows, "  ")
    barred = [plan for plan in results if not plan.get("allowed", True)]
    others = [_method_row(plan, f"  ({'; '.join(plan['violations'])})") for plan in barred]
    if barred:
        yield f"Not allowed by policy {policy} or the limits, so not comparable with the rows above:"
    if relay := document.get("relay_optimum"):
        others.append(_method_row(relay | {"method": "optimal"}, "  (optimum of policy relay)"))
    yield from table_lines(_METHOD_COLUMNS, others, "  ", head=False)


def _method_row(plan: dict[str, Any], note: str) -> tuple[str, ...]:
    layers = {device: plan["devices"].count(device) for device in dict.fromkeys(plan["devices"])}
    return plan["method"], ms(plan["latency_s"]), ms(plan["period_s"]), f"  {layers_text(layers)}{note}"


def _sweep_lines(sweep: dict[str, Any]) -> Iterator[str]:
    yield f"Best splits by the rate of {sweep['link']}:"
    for plan in sweep["plans"]:
        start = f"{rate_text(plan['from_bps']):>14}: {ms(plan['latency_s'])}"
        yield f"  from {start} there, {layers_text(plan['layers'])}"
    for key, title in (("least_worst_case", "Minimax latency"), ("least_regret", "Minimax regret")):
        plan = sweep[key]
        regret = f", regret at most {ms(plan['regret_s'])}" if "regret_s" in plan else ""
        span = f"{ms(plan['at_low_s'])} to {ms(plan['at_high_s'])}"
        yield f"{title}: {layers_text(plan['layers'])}; {span}{regret}"
    if sweep["joined_units"]:
        yield "  among cuts of a single tensor"
