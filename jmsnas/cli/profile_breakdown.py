"""`jmsnas profile --breakdown`: where the time of each block goes, as a table, a file and a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jmsnas.cli.terminal import progress_bar, warn

if TYPE_CHECKING:
    from jmsnas.profiler.timing.torchprof_backend import Breakdown
    from jmsnas.space import Block
    from jmsnas.workspace import Workspace

_NO_ROWS = (
    "No row of eager torch was measured here, so none has its stages: jmsnas profile --runtime torch, "
    "then the same command again"
)


def profile_breakdown(
    device: str, blocks: Sequence["Block"], place: "Workspace", seed: int, as_json: bool
) -> dict[str, Any]:
    """Break blocks down on this host, write `tables/<device>.breakdown.json`, `.svg` and `.png`, and print.

    Rows of eager torch in the device's latency table get their stages.

    Parameters
    ----------
    device
        A name that this host has: `local`, or the built-in device that it is.
    blocks, place, seed
        What to profile, where the files go, and the seed of weights and inputs.
    as_json
        Print nothing: the caller prints one document.

    Returns
    -------
    The JSON file's content, with `table` and `pictures`, where they lie, and `rows`, how many got stages.

    Raises
    ------
    DeviceError
        When this host is not the device.
    MeasurementError
        When torchprof can profile none of the blocks.
    """
    check_host_is(device)
    from jmsnas.files import write_atomic
    from jmsnas.profiler.host.environment import describe_host
    from jmsnas.profiler.session.breakdowns import add_stages_to_table, profile_breakdowns, write_breakdowns
    from jmsnas.report.breakdown_plot import draw_breakdown, svg
    from jmsnas.report.plot_style import png

    table, *pictures = (
        place.table(device).with_suffix(f".breakdown.{end}") for end in ("json", "svg", "png")
    )
    with progress_bar() as progress:
        found = profile_breakdowns(blocks, seed=seed, progress=progress, warn=warn)
    document = write_breakdowns(table, device, found, describe_host())
    figure = draw_breakdown(device, found)
    for path, drawn in zip(pictures, (svg, png), strict=True):
        write_atomic(path, drawn(figure))
    rows = add_stages_to_table(device, place.table(device), found, warn)
    if not as_json:
        print_breakdown(found)
        print(f"{device}: broken down by torchprof, {table}; pictures {', '.join(map(str, pictures))}")
        print(f"{rows} rows of {place.table(device)} have their stages" if rows else _NO_ROWS)
    return document | {"table": str(table), "pictures": [str(path) for path in pictures], "rows": rows}


def check_host_is(device: str) -> None:
    """Refuse a device that this host is not: nothing can be simulated here. Raises DeviceError."""
    from jmsnas.errors import DeviceError
    from jmsnas.profiler.host.environment import is_this_host

    if not is_this_host(device):
        raise DeviceError(
            f"this host is not {device}, and torchprof sees only the host it runs on. "
            f"On that machine, run: jmsnas profile --device {device} --breakdown"
        )


def print_breakdown(found: Sequence["Breakdown"]) -> None:
    """Print a line a block: the share of each stage in the sum of its stages, and that sum.

    MBConvs, stems and heads have stages of their own, so each kind is a table of its own.
    """
    from jmsnas.profiler.session.breakdowns import STAGES, sum_of_stages_s

    longest = max(len(str(each.block)) for each in found)
    for op in dict.fromkeys(each.block.candidate.op for each in found):
        rows = [each for each in found if each.block.candidate.op == op]
        columns = [stage for stage in STAGES if any(stage in dict(each.stages) for each in rows)]
        heads = "".join(f"{stage:>12}" for stage in columns)
        print(f"{'block':<{longest}}{heads}{'sum':>12}")
        for each in rows:
            sum_s, stages = sum_of_stages_s(each), dict(each.stages)
            shares = (f"{100 * stages[name] / sum_s:.1f} %" if name in stages else "-" for name in columns)
            cells = "".join(f"{share:>12}" for share in shares)
            print(f"{str(each.block):<{longest}}{cells}{sum_s * 1e6:>9.1f} us")
        print()
