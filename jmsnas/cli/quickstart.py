"""`jmsnas quickstart`: run the whole workflow on this machine."""

import time
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, SeedOption, WorkspaceOption
from jmsnas.cli.output.search import print_result, simulated_devices
from jmsnas.cli.search import dated_name
from jmsnas.cli.terminal import (
    log,
    one_line_errors,
    print_json,
    print_line,
    progress_bar,
    warn,
    warn_simulated,
)
from jmsnas.workspace import Workspace

_HELP = """Run the whole workflow on this machine in about five minutes: profile, fit, search, deploy, report.

This host is measured; the laptop, Jetson and cloud of topology desk are SIMULATED, unless profiled before.

[bold]Example[/bold]

  jmsnas quickstart --seed 1
"""


@app.command("quickstart", help=_HELP)
@one_line_errors
def quickstart_command(
    seed: SeedOption = 0,
    threads: Annotated[int, typer.Option(min=1, help="Training threads.")] = 1,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Run the five steps, one library call each, and print the results."""
    start_s, workspace = time.monotonic(), Workspace(folder)
    run_name = dated_name("desk", "digits", seed)
    log("1/5 profile: every block of space digits on this host, in onnxruntime")
    from jmsnas.profiler.profile import ProfileOptions, profile_device
    from jmsnas.profiler.table.latency_table import RuntimeKey
    from jmsnas.space_file import load_space

    blocks = load_space("digits", workspace.spaces).blocks()
    with progress_bar() as progress:
        options = ProfileOptions(seed=seed, progress=progress, warn=warn)
        profile_device("local", blocks, [RuntimeKey()], workspace, options)
    log("2/5 fit-estimator: U(.) of this host, a laptop, a Jetson and a cloud server")
    from jmsnas.nas.search.config import SearchConfig
    from jmsnas.nas.search.run import RunOptions, SearchInputs, prepare_search, run_search

    with progress_bar() as progress:
        inputs = SearchInputs("desk", "digits", "digits")
        setup = prepare_search(workspace, inputs, seed, progress, warn)
    warn_simulated(simulated_devices(setup))
    log("3/5 search: a model and its split over the four devices, on scikit-learn's digits")
    with progress_bar() as progress:
        config = SearchConfig(seed=seed, threads=threads)
        run = run_search(workspace, run_name, setup, config, RunOptions(progress))
    log("4/5 deploy: four agents on loopback, predicted and measured latency on this machine")
    from jmsnas.cli.output.deploy import print_deployment
    from jmsnas.deploy.deploy_run import DeployOptions, deploy_run

    with progress_bar() as progress:
        deployed = deploy_run(workspace, run.folder, DeployOptions(loopback=True), progress, log, warn)
    log("5/5 report")
    from jmsnas.report.run_page import write_report

    page = write_report(workspace, run.folder)
    if as_json:
        print_json({**run.document, "deployment": deployed.document, "report": str(page)})
        return
    print_result(run)
    print_line()
    print_deployment(deployed.document, deployed.deadline)
    print_line("", f"Report: {page.resolve().as_uri()}", f"Total time {time.monotonic() - start_s:.0f} s.")
    print_line("Next: jmsnas search --topology desk --t-const 1ms, or: jmsnas profile --help")
