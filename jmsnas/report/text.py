"""Sentences and commands of the report page: summary of a run, comparison with cloud only, next steps."""

import dataclasses
import math
import shlex
from dataclasses import dataclass

from jmsnas.files import preset_names
from jmsnas.nas.derivation.target import BandStatus
from jmsnas.nas.run_result import split_verdict
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.report.device_data import DeviceData
from jmsnas.report.plot_style import milliseconds, percent
from jmsnas.report.report_data import ReportData
from jmsnas.report.split_map_plot import SplitMapPanel, placement_label
from jmsnas.report.term_schedule import ScheduledTerm
from jmsnas.topology import INPUT_BYTES, uncounted_costs
from jmsnas.units import format_rate

# Fields of SearchConfig that the command line can set.
_OPTIONS = ("seed", "t_const_s", "threads", "train_on")


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, and its description."""

    line: str
    description: str


def summary(data: ReportData) -> tuple[str, ...]:
    """Describe the derived model and its split, T against T_const, optimality, and accuracy."""
    run, target, t_s = data.run, data.run.target, data.derived.latency_s
    runs = ", ".join(f"{device_label(data, k.device)} runs {layer_range(k)}" for k in data.derived.terms)
    used, count = computing_devices(data), len(data.devices)
    over = (
        f"split it over {len(used)} of {count} devices" if len(used) > 1 else f"placed it on {used[0]} alone"
    )
    model = (
        f"The search derived a model of {len(data.derived.candidates)} layers "
        f"({run.parameters:,} parameters, {run.macs:,} multiply-accumulates) and {over}: {runs}."
    )
    if data.tree:
        model += branch_text(data)
    verdict = "within" if t_s <= target.t_const_s else "ABOVE"
    deadline = (
        f"One {image_size(data)} image takes T = {milliseconds(t_s)} by equation {data.equation}, {verdict} "
        f"the deadline T_const = {milliseconds(target.t_const_s)} ({percent(t_s / target.t_const_s)} of it). "
        f"Models of this space reach {milliseconds(target.fastest_s)} to {milliseconds(target.slowest_s)}, "
        "each under its best split."
    )
    accuracy = f"Its accuracy on the test images of {run.dataset} is {percent(run.accuracy.test)}."
    note = uncounted_costs(data.run.topology.devices, data.run.topology.links)
    return model, deadline + (f" {note}." if note else ""), _optimality(data), accuracy


def _optimality(data: ReportData) -> str:
    run, band = data.run, percent(data.config.band)
    if run.derived.in_band:
        proof = "proven" if run.derived.optimal else "not proven, as the search was stopped early"
        return f"Of all models whose T lies within {band} below the deadline it is the most likely: {proof}."
    if data.config.derive == "argmax":
        return "It has the most likely operation of each layer (argmax), regardless of the deadline."
    if run.derived.band is BandStatus.UNDECIDED:
        return f"No model with T within {band} below the deadline was found, though one may exist."
    return f"No model's T lies within {band} below the deadline: this is the best one below it."


def branch_text(data: ReportData) -> str:
    """Describe the slowest branch of a mesh, which T waits for, and the latency of each branch."""
    ends: dict[int, tuple[str, float]] = {}
    branches = [term for term in data.derived.schedule if term.branch is not None]
    for term in branches:
        name = term.device if not term.target else ends.get(term.branch or 0, ("", 0.0))[0]
        ends[term.branch or 0] = (name, term.end_s - branches[0].start_s)
    slowest, slowest_s = max(ends.values(), key=lambda end: end[1])
    others = ", ".join(f"{name} {milliseconds(s)}" for name, s in ends.values() if name != slowest)
    in_parallel = f" (in parallel: {others})" if others else ""
    return (
        f" The branches run in parallel and are summed on {branches[-1].target}; T waits for the one on "
        f"{slowest}, {milliseconds(slowest_s)} from when {branches[0].device} begins to send{in_parallel}."
    )


def computing_devices(data: ReportData) -> list[str]:
    """List the devices that run a layer of the derived model."""
    return [term.device for term in data.derived.terms if term.layers]


def image_size(data: ReportData) -> str:
    """Format the size of the input as `8x8`."""
    return data.layers[0].geometry.split()[1]


def device_label(data: ReportData, name: str) -> str:
    """Format a device's name and role as `pi4 (UE)`; the name alone if the role is empty or equal to it."""
    role = data.run.topology.device(name).role
    return f"{name} ({role})" if role not in ("", name) else name


def layer_range(term: LatencyTerm | ScheduledTerm) -> str:
    """Format the layers of a term: `layers 1 to 9`, `layer 10`, `no layer (relay)`."""
    if not term.layers:
        return "no layer (relay)"
    first, last = term.layers[0], term.layers[-1]
    return f"layer {first}" if first == last else f"layers {first} to {last}"


def cloud_text(data: ReportData) -> tuple[str, ...]:
    """Compare the split with cloud only, and give T of cloud only for each input encoding."""
    t_s, cloud_s = data.derived.latency_s, data.run.cloud_only.latency_s
    own = data.run.topology.input_encoding
    terms, hops = data.cloud_terms(own), len(data.cloud_route(own))
    send_s = sum(term.epsilon_s for term in terms)
    needed_s = terms[-1].tau_s + terms[-1].call_s
    returned = f", {milliseconds(data.return_s)} of it to return the result," if data.return_s else ""
    used = computing_devices(data)
    placement = "the split" if len(used) > 1 else f"the placement on {used[0]} alone"
    parts = (
        f"as {own} it is {data.run.cloud_only.input_bytes:,.0f} bytes, {milliseconds(send_s)} over {hops} "
        f"links, and {terms[-1].device} then needs {milliseconds(needed_s)} for the whole model: "
        f"{milliseconds(cloud_s)} in all{returned} against T = {milliseconds(t_s)} of {placement}"
    )
    if math.isclose(cloud_s, t_s, rel_tol=1e-9):
        sentences = [f"{placement[0].upper()}{placement[1:]} takes as long as cloud only: {parts}."]
    elif cloud_s < t_s:
        cost = "nothing" if send_s < 0.1 * cloud_s else "less than computing near the UE saves"
        kept = f"; with {placement} the raw image never leaves the first device"
        sentences = [
            f"Cloud only is faster here. An {image_size(data)} image costs {cost} to send: {parts}, "
            f"{t_s / cloud_s:.1f} times as fast{kept if data.derived.terms[0].layers else ''}. The map below "
            "shows where another placement is faster."
        ]
    else:
        saved = percent(1 - t_s / cloud_s)
        sentences = [
            f"T of {placement} is {saved} below that of cloud only. The {image_size(data)} image must be "
            f"sent: {parts}."
        ]
    for other in INPUT_BYTES:
        if other != own:
            other_terms = data.cloud_terms(other)
            total_s = sum(term.tau_s + term.call_s + term.epsilon_s + term.return_s for term in other_terms)
            sentences.append(f"With a {other} input, cloud only would take {milliseconds(total_s)}.")
    return tuple(sentences)


def verdict_text(data: ReportData) -> str:
    """Compare T of the alternatives to the searched split; empty where the run does not have them."""
    return f"T of {verdict}." if (verdict := split_verdict(data.run)) else ""


def split_map_text(panels: tuple[SplitMapPanel, ...]) -> tuple[str, ...]:
    """Describe each split map: the best placement at Table I's point, and how often each kind is best."""
    sentences = []
    for panel in panels:
        relay, at = panel.relay, panel.point
        size, rate_bps = relay.sizes[at[0]], relay.rates_bps[at[1]]
        best_s, cloud_s, strict_s = (
            float(m[at]) for m in (relay.best_SK, relay.cloud_SK, panel.strict.best_SK)
        )
        several = float(((relay.layers_SKM > 0).sum(axis=-1) > 1).mean())
        cloud = float((relay.cuts_SKM[..., -2] == 0).mean())
        sentences.append(
            f"{relay.input_encoding} input, {format_rate(rate_bps)}, {size}x{size} (the star): the best "
            f"placement is {placement_label(panel.devices, relay.layers_SKM[at])}, {milliseconds(best_s)}; "
            f"cloud only takes {milliseconds(cloud_s)}. With a layer on every device, as in the paper, T is "
            f"{milliseconds(strict_s)}, {'faster' if strict_s < cloud_s else 'slower'} than cloud only. "
            f"A split over several devices is the best placement on {percent(several)} of the map, cloud "
            f"only on {percent(cloud)}, one other device on the rest."
        )
    return tuple(sentences)


def latency_source(device: DeviceData) -> str:
    """Describe the rows that a device's U(.) was fitted to: count, and host, simulation or publication."""
    if device.model is None:
        return device.problem
    rows, parts = device.model.table.rows, []
    if device.model.setting:
        few = {0: "none of them is a block", 1: "1 of them is a block"}
        own = few.get(len(rows), f"{len(rows)} of them are blocks")
        count = device.model.estimator.evaluation.rows
        parts.append(f"{count} rows published by others: {device.model.setting}; {own} of JMSNAS")
        rows = ()
    for name, environment in device.model.table.environments.items():
        here = [row for row in rows if row.environment == name]
        if not here:
            continue
        if here[0].kind == "simulated":
            host = environment.get("host", "").removeprefix("none: simulated ")
            parts.append(f"{len(here)} rows SIMULATED, {host}: {here[0].source}")
        elif here[0].kind == "imported":
            parts.append(f"{len(here)} rows {here[0].source}")
        else:
            host = environment.get("board") or environment.get("cpu") or "an unknown host"
            day = min(row.measured_at for row in here)[:10]
            parts.append(f"{len(here)} rows measured on {host}, {day}")
    return "; ".join(parts + ([device.problem] if device.problem else []))


def repeat_commands(data: ReportData) -> tuple[Command, ...]:
    """List the commands that repeat the run, with names quoted for the shell."""
    tables = dict.fromkeys(device.device.table for device in data.devices if not device.published)
    published = dict.fromkeys(device.device.table for device in data.devices if device.published)
    devices = " ".join(f"--device {shlex.quote(table)}" for table in tables)
    config, default = data.config, SearchConfig()
    space = shlex.quote(config.space)
    changed = [
        f"{field.name} = {getattr(config, field.name)!r}"
        for field in dataclasses.fields(default)
        if field.name not in _OPTIONS and getattr(config, field.name) != getattr(default, field.name)
    ]
    description = "searches again, with the same seed and deadline"
    if changed:
        options = ", ".join(changed)
        description += f"; from Python with SearchConfig({options}), which the command line cannot set"
    if config.topology not in preset_names("topologies"):
        description += "; the topology is your own file"
    own = (
        Command(f"jmsnas profile {devices} --space {space}", "measures this host, simulates other devices"),
        Command(f"jmsnas fit-estimator {devices}", "fits U(.) of each"),
    )
    of_others = Command(
        "jmsnas fit-estimator --table FILE", f"fits U(.) of {', '.join(published)} to their published tables"
    )
    return (
        *(own if tables else ()),
        *((of_others,) if published else ()),
        Command(f"{_search(data)} --t-const {data.run.target.t_const_s!r}s", description),
        Command(f"jmsnas report {shlex.quote(data.run.name)}", "writes this page"),
    )


def next_commands(data: ReportData) -> tuple[Command, ...]:
    """List commands that can follow this run: measure devices, search with this host, a tighter deadline."""
    space, commands = shlex.quote(data.config.space), []
    for table in dict.fromkeys(device.device.table for device in data.devices if device.simulated):
        commands.append(
            Command(
                f"jmsnas profile --device {shlex.quote(table)} --space {space} --measured-only",
                f"run on the real {table}: measures it instead of simulating it; then copy its "
                "tables/*.parquet into this workspace",
            )
        )
    if "local" not in [device.device.table for device in data.devices]:
        commands.append(Command(f"jmsnas profile --space {space}", "measures this host"))
        if not data.tree:
            line = _search(data, topology="desk")
            commands.append(Command(line, "searches with this host, as measured, instead of the UE"))
    target = data.run.target
    tighter_s = (target.fastest_s + min(target.t_const_s, target.slowest_s)) / 2
    line = f"{_search(data)} --t-const {tighter_s * 1e3:.4g}ms"
    return (*commands, Command(line, "searches with a tighter deadline"))


def _search(data: ReportData, topology: str = "") -> str:
    config = data.config
    command = ["jmsnas", "search", "--topology", topology or config.topology]
    command += ["--space", config.space, "--dataset", config.dataset]
    command += ["--seed", str(config.seed), "--threads", str(config.threads)]
    return shlex.join([*command, "--train-on", config.train_on])
