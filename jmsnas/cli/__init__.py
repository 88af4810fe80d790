"""Command line of JMSNAS: one module per command, which parses, calls the library and prints."""

import sys
from typing import Any

import typer
from typer.core import TyperGroup


class _Commands(TyperGroup):
    """Commands in the order of a typical workflow."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in ("search", "sweep", "split") and any(
            arg == "--network" or arg.startswith("--network=") for arg in args
        ):
            print(
                "jmsnas: there is no option --network: name devices and links with --topology NAME or "
                "--topology FILE.toml",
                file=sys.stderr,
            )
            raise typer.Exit(2)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="jmsnas",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


@app.callback()
def _root() -> None:
    """Profile devices; search, split and deploy neural networks on them. Start with: jmsnas quickstart."""


from jmsnas.cli import (  # noqa: E402 - each registers its command on app
    agent,  # noqa: F401
    certs,  # noqa: F401
    compare,  # noqa: F401
    deploy,  # noqa: F401
    devices,  # noqa: F401
    doctor,  # noqa: F401
    fit_estimator,  # noqa: F401
    predict,  # noqa: F401
    profile,  # noqa: F401
    quickstart,  # noqa: F401
    report,  # noqa: F401
    search,  # noqa: F401
    split,  # noqa: F401
    sweep,  # noqa: F401
    table,  # noqa: F401
    table_import,  # noqa: F401
)

_ORDER = (
    "quickstart",
    "devices",
    "profile",
    "table",
    "fit-estimator",
    "predict",
    "search",
    "sweep",
    "split",
    "compare",
    "certs",
    "agent",
    "deploy",
    "report",
    "doctor",
)
