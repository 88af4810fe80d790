"""`jmsnas profile` of a search space: plan the blocks, measure or simulate them, print the tables."""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

from jmsnas.cli.output.profile import device_document, plan_document, plan_lines, print_device, print_plan
from jmsnas.cli.profile_arguments import ProfileArguments
from jmsnas.cli.profile_few_shot import print_few_shot, profile_few_shot, until_mape_document
from jmsnas.cli.terminal import log, print_json, print_line, progress_bar, warn, warn_simulated
from jmsnas.estimators.few_shot.plan import FewShotPlan, make_few_shot_plan
from jmsnas.profiler.host.environment import is_this_host
from jmsnas.profiler.plan import ProfilePlan, make_profile_plan
from jmsnas.profiler.profile import (
    ProfileOptions,
    ProfileResult,
    check_agent_processor,
    check_device,
    profile_device,
)
from jmsnas.profiler.simulation.roofline import processor_of
from jmsnas.profiler.table.latency_table import RUNTIMES, RuntimeKey
from jmsnas.progress import Progress
from jmsnas.space import BlockOrPart, SearchSpace
from jmsnas.space_file import load_space
from jmsnas.units import parse_duration
from jmsnas.workspace import Workspace

# Agents measure in onnxruntime on the CPU.
_AGENT_RUNTIME, _AGENT_PROCESSOR = "onnxruntime", "cpu"


def profile_space_command(args: ProfileArguments) -> None:
    """Parse, profile each device, print."""
    workspace, devices = Workspace(args.folder), list(dict.fromkeys(args.device or ["local"]))
    budget_s = parse_duration(args.budget) if args.budget is not None else None
    agents = devices_with_agents(workspace, devices)
    keys = runtime_keys(args, devices, agents)
    space = load_space(args.space, workspace.spaces)
    plan, few_shot = make_plans(args, space)
    planned = plan_document(few_shot.as_plan if few_shot else plan, keys, workspace, budget_s, agents)
    if few_shot:
        planned |= until_mape_document(few_shot)
    if args.dry_run:
        print_json(planned) if args.as_json else print_plan(planned)
        return
    for line in plan_lines(
        device for device in planned["devices"] if device["measured_here"] or device["agent"]
    ):
        log(line)

    documents: list[dict[str, Any]] = []
    for device in devices:
        with progress_bar() as progress:
            document = profile_one(
                args, device, keys[device], plan, few_shot, workspace, device in agents, progress
            )
        documents.append(document)
    if args.as_json:
        print_json({"space": args.space, "devices": documents})
        return
    for document in documents:
        print_device(document)
        print_few_shot(document["few_shot"])
    print_line("", f"Next: {'jmsnas search --topology chain' if few_shot else 'jmsnas fit-estimator'}")


def make_plans(args: ProfileArguments, space: SearchSpace) -> tuple[ProfilePlan, FewShotPlan | None]:
    """Plan the blocks of a space, and those that --blocks and --until-mape select. Raises InputError."""
    plan = make_profile_plan(space, args.off_grid, args.parts, args.mobilenets, args.seed)
    if args.blocks is None and args.until_mape is None:
        return plan, None
    return plan, make_few_shot_plan(plan, args.blocks, args.until_mape)


def profile_one(
    args: ProfileArguments,
    device: str,
    keys: Sequence[RuntimeKey],
    plan: ProfilePlan,
    few_shot: FewShotPlan | None,
    workspace: Workspace,
    by_agent: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Profile one device, warn where it is simulated, and return the document of its table."""
    budget_s = parse_duration(args.budget) if args.budget is not None else None
    # Cached: the jobs of a device repeat the same warnings.
    options = ProfileOptions(seed=args.seed, budget_s=budget_s, progress=progress, warn=cache(warn))
    measure = _measure_function(args, device, workspace, by_agent)
    if few_shot:
        result, accuracy = profile_few_shot(few_shot, device, keys, workspace, measure, options)
    else:
        result, accuracy = measure(plan.subjects, keys, options), []
    if result.table.simulated:
        warn_simulated([device])
    return {**device_document(result, keys), "few_shot": accuracy}


def _measure_function(
    args: ProfileArguments, device: str, workspace: Workspace, by_agent: bool
) -> Callable[[Sequence[BlockOrPart], Sequence[RuntimeKey], ProfileOptions], ProfileResult]:
    """Make a function that profiles blocks on a device: by its agent, else here or simulated."""

    def measure(
        subjects: Sequence[BlockOrPart], keys: Sequence[RuntimeKey], options: ProfileOptions
    ) -> ProfileResult:
        if by_agent:
            from jmsnas.deploy.remote_profile import profile_remote

            return profile_remote(device, subjects, keys, workspace, workspace.certs / "leader", options)
        return profile_device(device, subjects, keys, workspace, options, measured_only=args.measured_only)

    return measure


def devices_with_agents(workspace: Workspace, devices: Sequence[str]) -> dict[str, str]:
    """Return the addresses of the devices that an agent of `devices.toml` measures. Raises DeviceError."""
    if not workspace.devices_file.exists():
        return {}
    from jmsnas.deploy.transport.devices_file import read_devices_file

    known = read_devices_file(workspace.devices_file)
    return {
        device: known[device].address for device in devices if device in known and not is_this_host(device)
    }


def runtime_keys(
    args: ProfileArguments, devices: Sequence[str], agents: Collection[str] = ()
) -> dict[str, list[RuntimeKey]]:
    """Make and check the runtime keys of all devices. Raises DeviceError, TableError."""
    wall = (args.timer, args.layout) == ("wall", "contiguous")
    found: dict[str, list[RuntimeKey]] = {}
    for device in devices:
        if device in agents:
            check_agent_processor(device)
            default, processor = [_AGENT_RUNTIME], args.processor or _AGENT_PROCESSOR
        else:
            default = [*RUNTIMES] if wall else ["torch"]
            processor = args.processor or processor_of(device)
        found[device] = [
            RuntimeKey(runtime, args.threads, args.batch, args.dtype, processor, args.layout, args.timer)
            for runtime in dict.fromkeys(args.runtime or default)
        ]
        if device not in agents:
            check_device(device, found[device], measured_only=args.measured_only)
    return found
