"""`jmsnas quickstart`: the whole way on this machine."""

import time
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, SeedOption, WorkspaceOption
from jmsnas.cli.search import dated_name
from jmsnas.cli.search_output import print_result, simulated_devices
from jmsnas.cli.terminal import log, one_line_errors, print_json, progress_bar, warn, warn_simulated
from jmsnas.workspace import Workspace

_HELP = """The whole way on this machine, under five minutes: profile, fit, search, split, deploy, report.

This host is measured; the laptop, Jetson and cloud of network desk are SIMULATED, unless profiled before.

[bold]Example[/bold]

  jmsnas quickstart --seed 1
"""


@app.command("quickstart", help=_HELP)
@one_line_errors
def quickstart_command(
    seed: SeedOption = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads to train with.")] = 1,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Run the five steps, each one library call, and print what was found."""
    began, place = time.monotonic(), Workspace(folder)
    run_name = dated_name("desk", "digits", seed)
    log("1/5 profile: every block of space digits on this host, in onnxruntime")
    from jmsnas.profiler.profile import ProfileOptions, profile_device
    from jmsnas.profiler.table.latency_table import RuntimeKey
    from jmsnas.space_file import load_space

    blocks = load_space("digits", place.spaces).blocks()
    with progress_bar() as progress:
        options = ProfileOptions(seed=seed, progress=progress, warn=warn)
        profile_device("local", blocks, [RuntimeKey()], place, options)
    log("2/5 fit-estimator: U(.) of this host, a laptop, a Jetson and a cloud server")
    from jmsnas.nas.search.config import SearchConfig
    from jmsnas.nas.search.run import RunOptions, prepare_search, run_search

    with progress_bar() as progress:
        setting = prepare_search(place, "desk", "digits", "digits", seed, progress, warn)
    warn_simulated(simulated_devices(setting))
    log("3/5 search: a network and its split over the four devices, on scikit-learn's digits")
    with progress_bar() as progress:
        config = SearchConfig(seed=seed, threads=threads)
        run = run_search(place, run_name, setting, config, RunOptions(progress))
    log("4/5 deploy: four agents on loopback, predicted beside measured on this machine")
    from jmsnas.cli.deploy_output import print_deployment
    from jmsnas.deploy.deploy_run import DeployOptions, deploy_run

    with progress_bar() as progress:
        deployed = deploy_run(place, run.folder, DeployOptions(loopback=True), progress, log, warn)
    log("5/5 report")
    from jmsnas.report.run_page import write_report

    page = write_report(place, run.folder)
    if as_json:
        print_json({**run.document, "deployment": deployed.document, "report": str(page)})
        return
    print_result(run)
    print()
    print_deployment(deployed.document)
    print(f"\nReport: {page.resolve().as_uri()}\nThe whole took {time.monotonic() - began:.0f} s.")
    print("Next: jmsnas search --topology desk --t-const 1ms, or: jmsnas profile --help")
