"""Printed results of `jmsnas deploy`: every latency term, predicted and measured."""

from typing import Any

from jmsnas.cli.terminal import print_line, table_lines
from jmsnas.deploy.leader.deadline import JudgedDeadline
from jmsnas.units import format_duration as ms


def print_deployment(document: dict[str, Any], deadline: JudgedDeadline) -> None:
    """Print the deadline of a deployment, then its document."""
    print_line(*deadline.lines, "")
    where = "agents on this machine's loopback" if document["loopback"] else "the devices"
    print_line(
        f"Run {document['run']} over topology {document['topology']} on {where}, plan {document['epoch']}:"
    )
    for piece in document["pieces"]:
        what = f"layers {piece['layers']}, {piece['runtime']}" if piece["layers"] else "(relay)"
        print_line(f"  {piece['device']:<10} {what}")
    if document["lost"]:
        answered = ", ".join(f"{plan['requests']} by plan {plan['epoch']}" for plan in document["answered"])
        print_line(f"  lost: {', '.join(document['lost'])}; the plan above is without it")
        print_line(f"  requests answered: {answered}; {document['repeated']} failed and were sent again")
    rows = []
    for term in document["terms"]:
        if term["kind"] == "wait" and term["measured_s"] < 5e-5:
            continue
        predicted = ms(term["predicted_s"]) if term["predicted_s"] is not None else "-"
        ratio = "emulated" if term["held"] else f"{term['ratio']:.2f}" if term["ratio"] else "-"
        name = f"{term['kind']} {term['where']}"
        spread = f"{ms(term['low_s'])} to {ms(term['high_s'])}"
        rows.append((name, predicted, ms(term["measured_s"]), ratio, f"   {spread}"))
    latency = document["latency"]
    ratio = "emulated" if latency["held"] else f"{latency['ratio']:.2f}"
    rows.append(("T", ms(latency["predicted_s"]), ms(latency["measured_s"]), ratio, ""))
    names = ("term", "predicted", "measured", "ratio", "   5 % to 95 %")
    specs = ("<30", ">12", ">12", ">10", "")
    print_line("", *table_lines([*zip(names, specs, strict=True)], rows))
    piped = document["pipelined"]
    print_line(
        f"pipelined: {piped['per_s']:.0f} images/s, {piped['predicted_per_s']:.0f} predicted, "
        f"limited by {piped['bound_by']}"
    )
    accuracy = document["accuracy"]
    verdict = "equal" if accuracy["equal"] else "NOT EQUAL"
    print_line(
        f"accuracy {accuracy['divided']:.1%}, unsplit model {accuracy['undivided']:.1%}: {verdict} "
        f"(largest logit difference {accuracy['largest_difference']:.1e})"
    )
    if document["simulated"]:
        print_line(f"Predictions of {', '.join(document['simulated'])} are SIMULATED.")
    if document["published"]:
        print_line(
            f"Predictions of {', '.join(document['published'])} are based on tables published by others."
        )
