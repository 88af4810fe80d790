"""`jmsnas profile --breakdown`: time per stage of each block, as a table, a file and a plot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jmsnas.cli.profile_arguments import ProfileArguments
from jmsnas.cli.terminal import print_json, print_line, progress_bar, table_lines, warn
from jmsnas.workspace import Workspace

if TYPE_CHECKING:
    from jmsnas.profiler.timing.torchprof_backend import Breakdown
    from jmsnas.space import Block

_NO_ROWS = (
    "No rows were measured here in eager torch, so no stages were added to the table. To add them: "
    "jmsnas profile --runtime torch, then the same command again"
)


def profile_breakdown(
    device: str, blocks: Sequence["Block"], workspace: Workspace, seed: int, as_json: bool
) -> dict[str, Any]:
    """Measure the stages of blocks on this host, print them, and write `tables/<device>.breakdown.*`.

    Adds the stages to rows of eager torch in the device's latency table; `seed` is of weights and inputs.
    With `as_json` nothing is printed. Returns the content of the JSON file, with the paths `table` and
    `pictures`, and the number of `rows` with stages. Raises DeviceError if this host is not the device,
    MeasurementError if torchprof can profile none of the blocks.
    """
    check_host_is(device)
    from jmsnas.files import write_atomic
    from jmsnas.profiler.host.environment import describe_host
    from jmsnas.profiler.session.breakdowns import add_stages_to_table, profile_breakdowns, write_breakdowns
    from jmsnas.report.breakdown_plot import draw_breakdown
    from jmsnas.report.plot_style import png, svg

    table, *pictures = (
        workspace.table(device).with_suffix(f".breakdown.{end}") for end in ("json", "svg", "png")
    )
    with progress_bar() as progress:
        found = profile_breakdowns(blocks, seed=seed, progress=progress, warn=warn)
    document = write_breakdowns(table, device, found, describe_host())
    figure = draw_breakdown(device, found)
    for path, drawn in zip(pictures, (svg, png), strict=True):
        write_atomic(path, drawn(figure))
    rows = add_stages_to_table(device, workspace.table(device), found, warn)
    if not as_json:
        print_breakdown(found)
        print_line(f"{device}: stages measured by torchprof, {table}; plots {', '.join(map(str, pictures))}")
        print_line(f"{rows} rows of {workspace.table(device)} have stages" if rows else _NO_ROWS)
    return document | {"table": str(table), "pictures": [str(path) for path in pictures], "rows": rows}


def profile_breakdown_command(args: ProfileArguments) -> None:
    """Parse, measure the stages on each device, print."""
    from jmsnas.cli.profile_space import runtime_keys
    from jmsnas.space_file import load_space

    workspace, devices = Workspace(args.folder), list(dict.fromkeys(args.device or ["local"]))
    runtime_keys(args, devices)  # raises for unknown devices
    blocks = load_space(args.space, workspace.spaces).blocks()
    documents = [profile_breakdown(name, blocks, workspace, args.seed, args.as_json) for name in devices]
    if args.as_json:
        print_json({"space": args.space, "devices": documents})


def check_host_is(device: str) -> None:
    """Raise DeviceError if this host is not the device, since torchprof cannot simulate."""
    from jmsnas.errors import DeviceError
    from jmsnas.profiler.host.environment import is_this_host

    if not is_this_host(device):
        raise DeviceError(
            f"this host is not {device}, and torchprof can only measure the host it runs on. "
            f"On that machine, run: jmsnas profile --device {device} --breakdown"
        )


def print_breakdown(found: Sequence["Breakdown"]) -> None:
    """Print one row per block: the share of each stage in the sum of stages, and the sum.

    One table per operation, since MBConvs, stems and heads have different stages.
    """
    from jmsnas.profiler.session.breakdowns import STAGES, sum_of_stages_s

    longest = max(len(str(each.block)) for each in found)
    for op in dict.fromkeys(each.block.candidate.op for each in found):
        rows = [each for each in found if each.block.candidate.op == op]
        columns = [stage for stage in STAGES if any(stage in dict(each.stages) for each in rows)]
        table = []
        for each in rows:
            sum_s, stages = sum_of_stages_s(each), dict(each.stages)
            shares = (f"{100 * stages[name] / sum_s:.1f} %" if name in stages else "-" for name in columns)
            table.append((str(each.block), *shares, f"{sum_s * 1e6:.1f} us"))
        heads = [("block", f"<{longest}"), *((stage, ">12") for stage in columns), ("sum", ">12")]
        print_line(*table_lines(heads, table), "")
