"""Command-line options that several commands share, and a decorator that takes options from a dataclass."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

T = TypeVar("T")

WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", envvar="JMSNAS_WORKSPACE", help="Folder of tables, estimators and runs."),
]
DEFAULT_WORKSPACE = Path("jmsnas-workspace")
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of all random numbers.")]

TopologyOption = Annotated[
    str,
    typer.Option(
        "--topology", help="Devices and links: chain, mesh, desk, a NAME of yours, or a .toml file."
    ),
]
RunArgument = Annotated[str, typer.Argument(help="Name of a finished run, or its folder.")]
RunTopologyOption = Annotated[
    str | None,
    typer.Option(
        "--topology", help="chain, mesh, desk, a NAME of yours, or a .toml file. Default: the run's."
    ),
]
LoopbackOption = Annotated[bool, typer.Option("--loopback", help="Agents on this machine.")]
ReplanOption = Annotated[bool, typer.Option("--replan", help="Continue without a lost device.")]
PolicyOption = Annotated[
    str | None, typer.Option("--policy", help="strict, relay or stop-early. Default: the topology's.")
]
RecipeOption = Annotated[
    str, typer.Option("--recipe", help="Space, data set, schedule: first-run, fashion-mnist, cifar, paper.")
]
SpaceOption = Annotated[
    str | None, typer.Option("--space", help="A name or a .toml file. Default: the recipe's.")
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset", help="digits, fashion-mnist, cifar10, imagenette, imagenet. Default: the recipe's."
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the data set's files. Default: data in the workspace."),
]
TargetsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--t-const",
        help="Latency target, as 120ms or 5ms@p95; repeatable. Default: middle of the feasible range.",
    ),
]
ConstraintOption = Annotated[
    str, typer.Option("--constraint", help="penalty, or multiplier: learned on T of the likeliest model.")
]
DeriveOption = Annotated[
    str, typer.Option("--derive", help="constrained: exact, within 3 % below T_const; or argmax.")
]


def options_from(options: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Make a Typer command of a function of one options dataclass; its fields are the command's options."""

    def decorate(run: Callable[[T], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            run(options(**values))

        command.__signature__ = inspect.signature(options)  # type: ignore[attr-defined]
        command.__annotations__ = get_type_hints(options, include_extras=True)
        return command

    return decorate
