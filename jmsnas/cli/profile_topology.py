"""`jmsnas profile --topology`: profile every device of a topology that has no latency table of the space."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import typer

from jmsnas.cli.output.profile import plan_document, plan_lines, print_device, print_plan
from jmsnas.cli.profile_arguments import ProfileArguments
from jmsnas.cli.profile_few_shot import print_few_shot
from jmsnas.cli.profile_space import devices_with_agents, make_plans, profile_one, runtime_keys
from jmsnas.cli.terminal import log, print_json, print_line, progress_bar
from jmsnas.errors import InputError, JmsnasError, TableError
from jmsnas.estimators.lookup import external_folder
from jmsnas.profiler.host.environment import is_this_host
from jmsnas.profiler.plan import ProfilePlan
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.table.parquet import read_table
from jmsnas.progress import Progress
from jmsnas.space import Block
from jmsnas.space_file import load_space
from jmsnas.topology import load_topology
from jmsnas.units import parse_duration
from jmsnas.workspace import Workspace


def profile_topology_command(args: ProfileArguments, name: str) -> None:
    """Parse, profile the devices without a table, print; exit code 1 if one of them cannot be profiled."""
    if args.device or args.model is not None or args.breakdown:
        raise InputError("got --topology with --device, --model or --breakdown: expected one of them")
    workspace = Workspace(args.folder)
    budget_s = parse_duration(args.budget) if args.budget is not None else None
    topology = load_topology(name, workspace.topologies)
    plan, few_shot = make_plans(args, load_space(args.space, workspace.spaces, len(topology.children)))
    # Devices of the same kind share a table.
    runtimes = {device.table: device.runtime for device in topology.devices}
    agents = devices_with_agents(workspace, list(runtimes))
    keys, failed = _keys_to_measure(args, runtimes, agents, few_shot.as_plan if few_shot else plan, workspace)
    planned = plan_document(few_shot.as_plan if few_shot else plan, keys, workspace, budget_s, agents)
    if args.dry_run:
        print_json(planned) if args.as_json else print_plan(planned)
        _exit(failed)
        return
    for line in plan_lines(planned["devices"]):
        log(line)

    def profile(device: str, progress: Progress) -> dict[str, Any]:
        by_agent = device in agents
        return profile_one(args, device, keys[device], plan, few_shot, workspace, by_agent, progress)

    from jmsnas.deploy.remote_profile import devices_by_host, profile_at_once
    from jmsnas.deploy.transport.devices_file import agents_for

    remote = tuple(device for device in keys if device in agents)
    results: dict[str, dict[str, Any] | JmsnasError] = {}
    hosts: list[list[str]] = []
    if remote:
        addresses = agents_for(remote, workspace.devices_file)
        hosts, lost = devices_by_host(workspace.certs / "leader", addresses)
        results |= lost
    if few_shot:  # U(.) is fitted between the blocks, which takes this host's processor
        hosts = [[device for host in hosts for device in host]]
    with progress_bar() as progress:
        results |= profile_at_once(hosts, profile, progress)
        results |= profile_at_once([[device for device in keys if device not in agents]], profile, progress)
    failed |= {device: found for device, found in results.items() if isinstance(found, JmsnasError)}
    documents = [found for found in results.values() if not isinstance(found, JmsnasError)]
    if args.as_json:
        errors = {device: str(error) for device, error in failed.items()}
        print_json({"space": args.space, "devices": documents, "failed": errors})
    for document in [] if args.as_json else documents:
        print_device(document)
        print_few_shot(document["few_shot"])
    if not (failed or args.as_json):
        done = "" if documents else f"Every device of {name} has a latency table of space {args.space}."
        print_line(done, f"Next: jmsnas search --topology {name}")
    _exit(failed)


def _keys_to_measure(
    args: ProfileArguments,
    runtimes: Mapping[str, str],
    agents: Mapping[str, str],
    plan: ProfilePlan,
    workspace: Workspace,
) -> tuple[dict[str, list[RuntimeKey]], dict[str, JmsnasError]]:
    """Return the runtime keys of the devices that lack rows, and the errors of those that have none.

    `runtimes` has the runtime of each device in the topology; --runtime overrides it.
    """
    found: dict[str, list[RuntimeKey]] = {}
    failed: dict[str, JmsnasError] = {}
    for device, runtime in runtimes.items():
        try:
            if external_folder(workspace, device, runtime):
                continue
            own = replace(args, runtime=args.runtime or [runtime])
            keys = runtime_keys(own, [device], agents)[device]
        except InputError as error:
            failed[device] = error
            continue
        measurable = device in agents or is_this_host(device)
        blocks = {block for block in plan.subjects if isinstance(block, Block)}
        if not all(blocks <= _blocks_with_row(workspace, device, key, measurable) for key in keys):
            found[device] = keys
    return found, failed


def _blocks_with_row(workspace: Workspace, device: str, key: RuntimeKey, measurable: bool) -> set[Block]:
    """Return the blocks that a table has a row of; simulated rows count where nothing can be measured."""
    try:
        rows = read_table(workspace.table(device)).rows
    except TableError:  # missing, or reported by the profile itself
        return set()
    return {row.block for row in rows if row.key == key and not (measurable and row.kind == "simulated")}


def _exit(failed: Mapping[str, JmsnasError]) -> None:
    """Print a line for each device that was not profiled, and exit with code 1 if there is one."""
    for device, error in failed.items():
        log(f"jmsnas: {device} was not profiled: {error}")
    if failed:
        raise typer.Exit(1)
