"""Printed results of `jmsnas search`: a model and its split term by term, or a table of several runs."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from jmsnas.cli.terminal import print_line, table_lines
from jmsnas.origin import origin_label, origin_notes
from jmsnas.topology import Topology, uncounted_costs

if TYPE_CHECKING:
    from jmsnas.nas.run_result import DerivedResult, RunResult
    from jmsnas.nas.search.run_folder import SearchSetup


def simulated_devices(setup: "SearchSetup") -> list[str]:
    """List the tables of simulated devices of a `SearchSetup`."""
    devices = setup.topology.devices
    return list(dict.fromkeys(d.table for d in devices if setup.estimators[d.name].simulated))


def print_result(run: "RunResult") -> None:
    """Print the derived model, every term of equation (1) or (2), and the baselines."""
    from jmsnas.nas.run_result import split_verdict
    from jmsnas.units import format_duration as ms

    derived, target, cloud, topology = run.derived, run.target, run.cloud_only, run.topology
    print_line(f"Topology {topology.name}, policy {topology.policy}, layer by layer:")
    for term in derived.terms:
        names = " ".join(derived.candidates[n - 1] for n in term.layers) or "(relay)"
        sent = f" + {ms(term.epsilon_s)} to send {term.sent_bytes:.0f} B" if term.epsilon_s else ""
        reach = f"{ms(term.epsilon_root_s)} to receive + " if term.epsilon_root_s else ""
        sent += f" + {ms(term.return_s)} for the return path" if term.return_s else ""
        sent = f" + {ms(term.call_s)} to call{sent}" if term.call_s else sent
        energy = f", {term.energy_j * 1e3:.3g} mJ" if term.energy_j else ""
        device = f"{term.device:<8}  {origin_label(run.origins[term.device]):<10}"
        print_line(f"  {device} {reach}{ms(term.tau_s)}{sent}{energy}", f"{'':>10}{names}")
    t_s, t_const_s = derived.latency_s, target.t_const_s
    verdict = "<=" if t_s <= t_const_s else "EXCEEDS"
    print_line(
        f"T = {ms(t_s)} {verdict} T_const = {ms(t_const_s)} ({t_s / t_const_s:.1%} of it; "
        f"feasible {ms(target.fastest_s)} to {ms(target.slowest_s)})"
    )
    if target.margin_s:
        print_line(
            f"  p{target.percentile} of the measured T is to meet {ms(target.deadline_s)}: T_const leaves a "
            f"margin of {ms(target.margin_s)} ({target.margin_s / target.deadline_s:.1%})"
        )
    if note := uncounted_costs(topology.devices, topology.links):
        print_line(f"  {note}")
    if not derived.in_band:
        print_line(f"  {_why_not_in_band(derived)}")
    elif not derived.optimal:
        print_line(
            "  not proven the likeliest in the band; no model has a sum of log p above "
            f"{derived.score + derived.gap:.2f}, this one has {derived.score:.2f}"
        )
    if topology.root:
        print_line("  the slowest branch counts; E[T] takes the max of means, a lower bound")
    print_line(f"  E[T] at the end of stage one {ms(run.expected_latency_s)}")
    print_line(f"  likeliest operations (argmax)  {ms(run.argmax.latency_s)}")
    print_line(f"  cloud only, {topology.input_encoding} input      {ms(cloud.latency_s)}")
    if cloud.latency_s < t_s:
        share = 1 - cloud.latency_s / t_s
        print_line(f"  Cloud only is faster, by {ms(t_s - cloud.latency_s)} ({share:.1%})")
    if verdict := split_verdict(run):
        print_line(f"  {verdict}")
    for sentence in origin_notes(run.origins.items()):
        print_line(f"  {sentence}")
    print_line(f"Test accuracy {run.accuracy.test:.1%}, {run.parameters} parameters")


def _why_not_in_band(derived: "DerivedResult") -> str:
    """Return why T is not in the band below T_const."""
    if derived.band is None:
        return "--derive argmax ignores T_const; --derive constrained does not"
    if derived.band == "undecided":
        return "no model with T within 3 % below T_const was found within the search limit; T is below it"
    return "no model has T within 3 % below T_const: this is the best one below"


def uncounted_lines(topologies: Iterable[Topology]) -> list[str]:
    """Format a line for each topology that has no cost of calls and hops."""
    notes = {topology.name: uncounted_costs(topology.devices, topology.links) for topology in topologies}
    return [f"topology {name}: {note}" for name, note in notes.items() if note]


def print_summary_table(runs: Sequence["RunResult"]) -> None:
    """Print one row per run."""
    from jmsnas.units import format_duration as ms

    rows = []
    for run in runs:
        t_s, t_const_s = run.derived.latency_s, run.target.t_const_s
        note = "" if run.derived.in_band else "  not in the band"
        figures = (ms(t_const_s), ms(t_s), f"{t_s / t_const_s:.1%}", f"{run.accuracy.test:.1%}")
        rows.append((run.name, *figures, str(run.parameters), note))
    names = ("run", "T_const", "T", "of it", "accuracy", "parameters", "")
    specs = ("<28", ">11", ">11", ">8", ">10", ">12", "")
    print_line(*table_lines([*zip(names, specs, strict=True)], rows))
    for line in uncounted_lines(run.topology for run in runs):
        print_line(line)
    for sentence in origin_notes(pair for run in runs for pair in run.origins.items()):
        print_line(sentence)
