"""Command line of JMSNAS: one module per command, which parses, calls the library and prints."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

# In the order of a typical workflow.
_COMMANDS = (
    "quickstart", "devices", "profile", "table", "fit-estimator", "predict", "search", "sweep", "split",
    "compare", "certs", "agent", "deploy", "report", "doctor",
)  # fmt: skip
# The class itself is in click or, by version, in a private module of typer.
_UsageError: Any = typer.BadParameter.__base__


@contextmanager
def _one_line_usage_errors() -> Iterator[None]:
    """Print an unknown option or command, or an invalid value, as one line; exit code 2."""
    try:
        yield
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # has printed the help
            raise
        text, command = " ".join(error.format_message().split()), getattr(error.ctx, "command_path", "jmsnas")
        print(f"jmsnas: {text}{'' if text[-1] in '.?' else '.'} See: {command} --help", file=sys.stderr)
        raise typer.Exit(2) from None


class _Commands(TyperGroup):
    """Commands in the order of `_COMMANDS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_COMMANDS.index)

    def make_context(self, *args: Any, **extra: Any) -> Any:
        with _one_line_usage_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _one_line_usage_errors():
            return super().invoke(ctx)

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


for _name in (*_COMMANDS, "table_import"):  # each module registers its command on app
    import_module(f"{__name__}.{_name.replace('-', '_')}")
