"""What a report says in words: the answer, what it rests on, and the commands to repeat it and go on."""

import dataclasses
import shlex
from dataclasses import dataclass

from jmsnas.files import preset_names
from jmsnas.nas.derivation.target import BandStatus
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.report.device_data import DeviceData
from jmsnas.report.plot_style import milliseconds, percent
from jmsnas.report.report_data import ReportData
from jmsnas.report.split_map_plot import SplitMapPanel, plan_name
from jmsnas.report.term_schedule import ScheduledTerm
from jmsnas.topology import INPUT_BYTES
from jmsnas.units import format_rate

# What the command line can set; the rest of SearchConfig is for Python.
_OPTIONS = ("seed", "t_const_s", "threads", "train_on")


@dataclass(frozen=True, slots=True)
class Command:
    """A line to type, and what it does."""

    line: str
    does: str


def answer(facts: ReportData) -> tuple[str, ...]:
    """Say what was found, sentence by sentence: the network, T against T_const, the accuracy."""
    run, target, t_s = facts.run, facts.run.target, facts.derived.latency_s
    pairs = zip(facts.devices, facts.derived.terms, strict=True)
    runs = ", ".join(f"{with_role(device)} runs {layers(term)}" for device, term in pairs)
    found = (
        f"The search chose a network of {len(facts.derived.candidates)} layers "
        f"({run.parameters:,} parameters, {run.macs:,} multiply-accumulates) and split it "
        f"over {len(facts.devices)} devices: {runs}."
    )
    if facts.tree:
        found += branch_words(facts)
    verdict = "within" if t_s <= target.t_const_s else "ABOVE"
    deadline = (
        f"One {image(facts)} image takes T = {milliseconds(t_s)} by equation {facts.equation}, {verdict} the "
        f"deadline T_const = {milliseconds(target.t_const_s)} ({percent(t_s / target.t_const_s)} of it). "
        f"Networks of this space reach {milliseconds(target.fastest_s)} to {milliseconds(target.slowest_s)}, "
        "each under its best split."
    )
    band = percent(facts.config.band)
    proof = "proven" if run.derived.optimal else "not proven, the search for a likelier was cut off"
    likely = f"Of all networks whose T lies within {band} below the deadline it is the likeliest: {proof}."
    if not run.derived.in_band:
        likely = f"No network's T lies within {band} below the deadline: this is the best one below it."
        if facts.config.derive == "argmax":
            likely = (
                "It is the likeliest operation of each layer (argmax), which does not look at the deadline."
            )
        elif run.derived.band is BandStatus.UNDECIDED:
            likely = f"None was found with T within {band} below the deadline, though there may be one."
    accuracy = f"Its accuracy on the test images of {run.dataset}: {percent(run.accuracy.test)}."
    return found, deadline, likely, accuracy


def branch_words(facts: ReportData) -> str:
    """Say of a mesh which of its branches T waits for, and how long each takes."""
    ends: dict[int, tuple[str, float]] = {}
    lanes = [share for share in facts.derived.shares if share.lane is not None]
    for share in lanes:
        name = share.device if not share.target else ends.get(share.lane or 0, ("", 0.0))[0]
        ends[share.lane or 0] = (name, share.end_s - lanes[0].start_s)
    slowest = max(ends.values(), key=lambda its: its[1])
    others = ", ".join(f"{name} {milliseconds(s)}" for name, s in ends.values() if name != slowest[0])
    beside = f" (beside it: {others})" if others else ""
    return (
        f" The branches run side by side and are summed on {lanes[-1].target}; T waits for the one on "
        f"{slowest[0]}, {milliseconds(slowest[1])} from when {lanes[0].device} begins to send{beside}."
    )


def image(facts: ReportData) -> str:
    """Size of the input as `8x8`."""
    return facts.layers[0].geometry.split()[1]


def with_role(facts: DeviceData) -> str:
    """Name a device with its role: `pi4 (UE)`; the name alone where it says it all."""
    name, role = facts.device.name, facts.device.role
    return f"{name} ({role})" if role not in ("", name) else name


def named(facts: ReportData, name: str) -> str:
    """Name a device of the run with its role."""
    return with_role(next(device for device in facts.devices if device.device.name == name))


def layers(term: LatencyTerm | ScheduledTerm) -> str:
    """Name the layers of a term: `layers 1 to 9`, `layer 10`, `no layer (it passes on)`."""
    if not term.layers:
        return "no layer (it passes on)"
    first, last = term.layers[0], term.layers[-1]
    return f"layer {first}" if first == last else f"layers {first} to {last}"


def cloud_sentences(facts: ReportData) -> tuple[str, ...]:
    """Say plainly whether cloud only is faster, and give the numbers for each input encoding."""
    t_s, cloud_s = facts.derived.latency_s, facts.run.cloud_only.latency_s
    own = facts.run.topology.input_encoding
    terms, hops = facts.cloud_terms(own), len(facts.cloud_way(own))
    send_s = sum(term.epsilon_s for term in terms)
    back = f", {milliseconds(facts.back_s)} of it to bring the result back," if facts.back_s else ""
    parts = (
        f"as {own} it is {facts.run.cloud_only.input_bytes:,.0f} bytes, {milliseconds(send_s)} over {hops} "
        f"links, and {terms[-1].device} then needs {milliseconds(terms[-1].tau_s)} for the whole network: "
        f"{milliseconds(cloud_s)} in all{back} against T = {milliseconds(t_s)} of the split"
    )
    if cloud_s < t_s:
        cheap = "nothing" if send_s < 0.1 * cloud_s else "less than computing near the UE saves"
        gives = "; what it gives is that the raw image never leaves the first device"
        found = [
            f"Cloud only is faster here. An {image(facts)} image costs {cheap} to send: {parts}, "
            f"{t_s / cloud_s:.1f} times as fast. At this input size a split does not pay in time"
            f"{gives if facts.derived.terms[0].layers else ''}. Where one pays is computed further below."
        ]
    else:
        saved = percent(1 - t_s / cloud_s)
        found = [
            f"The split is faster than cloud only by {saved}. The {image(facts)} image must be sent: {parts}."
        ]
    for other in INPUT_BYTES:
        if other != own:
            total_s = sum(its.tau_s + its.epsilon_s + its.return_s for its in facts.cloud_terms(other))
            found.append(f"With a {other} input, cloud only would take {milliseconds(total_s)}.")
    return tuple(found)


def split_sentences(panels: tuple[SplitMapPanel, ...]) -> tuple[str, ...]:
    """Say for each input encoding who wins at Table I's point, and over how much of the map a split wins."""
    found = []
    for panel in panels:
        relay, at = panel.relay, panel.point
        size, rate_bps = relay.sizes[at[0]], relay.rates_bps[at[1]]
        best_s, cloud_s, strict_s = (
            float(m[at]) for m in (relay.best_SK, relay.cloud_SK, panel.strict.best_SK)
        )
        several = float(((relay.layers_SKM > 0).sum(axis=-1) > 1).mean())
        cloud = float((relay.cuts_SKM[..., -2] == 0).mean())
        found.append(
            f"{relay.input_encoding} input, {format_rate(rate_bps)}, {size}x{size} (the star): the best plan "
            f"is {plan_name(panel.devices, relay.layers_SKM[at])}, {milliseconds(best_s)}; cloud only takes "
            f"{milliseconds(cloud_s)}. With a layer on every device, as in the paper, it is "
            f"{milliseconds(strict_s)}, which {'beats' if strict_s < cloud_s else 'loses to'} cloud only. "
            f"Over the whole map a split over several devices is the best on {percent(several)}, cloud only "
            f"on {percent(cloud)}, all on one other device on the rest."
        )
    return tuple(found)


def evidence(facts: DeviceData) -> str:
    """Say what a device's latencies rest on: how many rows, measured on what, or simulated from what."""
    if facts.basis is None:
        return facts.trouble
    rows, said = facts.basis.table.rows, []
    if facts.basis.setting:
        judged = facts.basis.estimator.evaluation.rows
        own = {0: "none of them is a block", 1: "1 of them is a block"}.get(
            len(rows), f"{len(rows)} of them are blocks"
        )
        said.append(f"{judged} rows published by others: {facts.basis.setting}; {own} of JMSNAS")
        rows = ()
    for name, environment in facts.basis.table.environments.items():
        here = [row for row in rows if row.environment == name]
        if not here:
            continue
        if here[0].kind == "simulated":
            host = environment.get("host", "").removeprefix("none: simulated ")
            said.append(f"{len(here)} rows SIMULATED, {host}: {here[0].source}")
        elif here[0].kind == "imported":
            said.append(f"{len(here)} rows {here[0].source}")
        else:
            host = environment.get("board") or environment.get("cpu") or "a host that does not say what it is"
            day = min(row.measured_at for row in here)[:10]
            said.append(f"{len(here)} rows measured on {host}, {day}")
    return "; ".join(said + ([facts.trouble] if facts.trouble else []))


def commands_again(facts: ReportData) -> tuple[Command, ...]:
    """Lines that repeat the run. Names are quoted for the shell."""
    tables = _once([facts_of.device.table for facts_of in facts.devices if not facts_of.published])
    published = _once([facts_of.device.table for facts_of in facts.devices if facts_of.published])
    devices = " ".join(f"--device {shlex.quote(table)}" for table in tables)
    config, default = facts.config, SearchConfig()
    space = shlex.quote(config.space)
    changed = [
        f"{field.name} = {getattr(config, field.name)!r}"
        for field in dataclasses.fields(default)
        if field.name not in _OPTIONS and getattr(config, field.name) != getattr(default, field.name)
    ]
    does = "searches again, with the same seed and deadline"
    if changed:
        does += f"; from Python with SearchConfig({', '.join(changed)}), which the command line cannot set"
    if config.topology not in preset_names("topologies"):
        does += "; the network is your own file"
    own = (
        Command(f"jmsnas profile {devices} --space {space}", "measures, or simulates what is not at hand"),
        Command(f"jmsnas fit-estimator {devices}", "fits U(.) of each"),
    )
    of_others = Command(
        "jmsnas fit-estimator --table FILE",
        f"fits U(.) of {', '.join(published)} to the tables they came from",
    )
    return (
        *(own if tables else ()),
        *((of_others,) if published else ()),
        Command(f"{_search(facts)} --t-const {facts.run.target.t_const_s!r}s", does),
        Command(f"jmsnas report {shlex.quote(facts.run.name)}", "writes this page"),
    )


def commands_next(facts: ReportData) -> tuple[Command, ...]:
    """Lines that are worth typing after this run."""
    space, found = shlex.quote(facts.config.space), []
    for table in _once([d.device.table for d in facts.devices if d.simulated]):
        found.append(
            Command(
                f"jmsnas profile --device {shlex.quote(table)} --space {space} --measured-only",
                f"typed on the real {table}: measures it instead of simulating it; then bring its "
                "tables/*.parquet into this workspace",
            )
        )
    if "local" not in [d.device.table for d in facts.devices]:
        found.append(Command(f"jmsnas profile --space {space}", "measures this computer"))
        if not facts.tree:
            line = _search(facts, network="desk")
            found.append(Command(line, "searches with this computer, as measured, in the place of the UE"))
    tighter_s = (facts.run.target.fastest_s + min(facts.run.target.t_const_s, facts.run.target.slowest_s)) / 2
    line = f"{_search(facts)} --t-const {tighter_s * 1e3:.4g}ms"
    return (*found, Command(line, "searches under a tighter deadline"))


def _search(facts: ReportData, network: str = "") -> str:
    config = facts.config
    words = ["jmsnas", "search", "--topology", network or config.topology]
    words += ["--space", config.space, "--dataset", config.dataset]
    words += ["--seed", str(config.seed), "--threads", str(config.threads)]
    return shlex.join([*words, "--train-on", config.train_on])


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))
