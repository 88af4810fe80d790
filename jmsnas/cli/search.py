"""`jmsnas search`: a network and its split over a chain of devices, within a deadline."""

from typing import Annotated, Any

import typer

from jmsnas.cli import app
from jmsnas.cli.terminal import (
    DEFAULT_WORKSPACE,
    JsonOption,
    SeedOption,
    WorkspaceOption,
    one_line_errors,
    print_json,
    progress_bar,
    say,
    warn,
    warn_simulated,
    workspace,
)

_HELP = """Search an architecture AND its split over a chain of devices, so that T <= T_const.

Devices that nobody has profiled are SIMULATED, and say so. Leaves a folder runs/NAME.

[bold]Examples[/bold]

  jmsnas search --topology chain                       the paper's chain; T_const: middle of what is feasible

  jmsnas search --topology chain --t-const 2.5ms       your deadline

  jmsnas search --topology chain --network desk        this host as the UE (profile it first)

  jmsnas search --topology chain --network mine.toml   your devices and links

Next: jmsnas report NAME
"""


@app.command("search", help=_HELP)
@one_line_errors
def search_command(
    topology: Annotated[str, typer.Option("--topology", help="chain")] = "chain",
    network: Annotated[
        str, typer.Option("--network", help="Network: chain, desk, or a .toml file.")
    ] = "chain",
    space: Annotated[str, typer.Option("--space", help="Search space: a name or a .toml file.")] = "digits",
    dataset: Annotated[str, typer.Option("--dataset", help="Images to train on.")] = "digits",
    t_const: Annotated[
        str | None,
        typer.Option("--t-const", help="Deadline, as 120ms. Default: middle of the feasible range."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run. Default: from the date.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads to train with.")] = 1,
    train_on: Annotated[str, typer.Option("--train-on", help="auto, cpu or cuda.")] = "auto",
    seed: SeedOption = 0,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, search, print."""
    from jmsnas.errors import NetworkError
    from jmsnas.units import parse_duration

    if topology != "chain":
        raise NetworkError(f"unknown topology {topology!r}: expected chain")
    t_const_s = parse_duration(t_const) if t_const is not None else None

    from jmsnas.nas.config import SearchConfig
    from jmsnas.nas.run import prepare, run_search
    from jmsnas.nas.training import device_for

    trained_on = device_for(train_on)
    place = workspace(folder)
    run_name = place.run(name or dated_name(network, space, seed)).name
    with progress_bar() as progress:
        setting = prepare(place, network, space, dataset, seed, progress, warn)
    warn_simulated(simulated_devices(setting))
    say(f"training on {trained_on} with {threads} thread{'s' * (threads > 1)}")
    config = SearchConfig(seed=seed, t_const_s=t_const_s, threads=threads, train_on=train_on)
    with progress_bar() as progress:
        run = run_search(place, run_name, setting, config, progress)
    if as_json:
        print_json(run.document)
        return
    print_result(run.document)
    print(f"\nRun: {run.folder}\nNext: jmsnas report {run_name}")


def dated_name(network: str, space: str, seed: int) -> str:
    """Name a run by its network, space, seed and the time: `chain-digits-s0-20261123-143000`."""
    from datetime import datetime
    from pathlib import Path

    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"{Path(network).stem}-{Path(space).stem}-s{seed}-{stamp}".lower()


def simulated_devices(setting: Any) -> list[str]:
    """Tables of the network's devices that are simulated, each once."""
    devices = setting.network.devices
    return list(dict.fromkeys(d.table for d in devices if setting.estimators[d.name].simulated))


def print_result(document: dict[str, Any]) -> None:
    """Print the derived network, every term of equation (1), and what it is to be compared with."""
    from jmsnas.units import format_duration as ms

    derived, target, cloud = document["derived"], document["target"], document["cloud_only"]
    simulated = {d["name"] for d in document["network"]["devices"] if d["simulated"]}
    print(f"Network {document['network']['name']}, policy {document['network']['policy']}, layer by layer:")
    for term in derived["terms"]:
        names = " ".join(derived["candidates"][n - 1] for n in term["layers"]) or "(relay)"
        mark = "  SIMULATED" if term["device"] in simulated else "  measured"
        sent = f" + {ms(term['epsilon_s'])} to send {term['sent_bytes']:.0f} B" if term["epsilon_s"] else ""
        print(f"  {term['device']:<8}{mark:<12} {ms(term['tau_s'])}{sent}\n{'':>10}{names}")
    t_s, t_const_s = derived["latency_s"], target["t_const_s"]
    verdict = "<=" if t_s <= t_const_s else "EXCEEDS"
    print(
        f"T = {ms(t_s)} {verdict} T_const = {ms(t_const_s)} ({t_s / t_const_s:.1%} of it; "
        f"feasible {ms(target['fastest_s'])} to {ms(target['slowest_s'])})"
    )
    if not derived["in_band"]:
        print("  no network's T lies within 3 % below T_const: this is the best below it")
    print(f"  E[T] at the end of stage one {ms(document['expected_latency_s'])}")
    print(f"  likeliest operations (argmax)  {ms(document['argmax']['latency_s'])}")
    print(f"  cloud only, {document['network']['input']} input      {ms(cloud['latency_s'])}")
    if cloud["latency_s"] < t_s:
        print("  Cloud only is faster here: at this input size a split does not pay.")
    if simulated:
        print(f"  T rests on SIMULATED latencies of {', '.join(sorted(simulated))}.")
    print(f"Test accuracy {document['accuracy']['test']:.1%}, {document['parameters']} parameters")
