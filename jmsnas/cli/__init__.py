"""Command line of JMSNAS: one module per command, which parses, calls the library and prints."""

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from jmsnas.cli.terminal import failure, json_errors, log, print_line
from jmsnas.streams import install_streams, output_failure

# In the order of a typical workflow.
_COMMANDS = (
    "quickstart", "devices", "topology", "profile", "table", "fit-estimator", "predict", "search", "sweep",
    "split", "compare", "certs", "agent", "deploy", "serve", "report", "doctor",
)  # fmt: skip
_PANEL_COLUMNS = 72
# The class itself is in click or, by version, in a private module of typer.
_UsageError: Any = typer.BadParameter.__base__


@contextmanager
def _one_line_usage_errors() -> Iterator[None]:
    """Print an unknown option or command, or an invalid value, as one line; exit code 2."""
    try:
        yield
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its text is the help, or empty if printed by rich
            print_line(*error.format_message().splitlines())
            raise typer.Exit(error.exit_code) from None
        text, command = " ".join(error.format_message().split()), getattr(error.ctx, "command_path", "jmsnas")
        message = f"{text}{'' if text[-1] in '.?' else '.'} See: {command} --help"
        raise failure("UsageError", message, 2) from None


def _fit_help(command: Any, formatter: Any) -> None:
    """Print help without panels on a terminal too narrow for them: they would cut the names of options."""
    columns = shutil.get_terminal_size().columns
    if columns < _PANEL_COLUMNS:
        command.rich_markup_mode, formatter.width = None, max(columns - 2, 20)
        command.help = re.sub(r"\[/?bold\]", "", command.help or "")


class _Command(TyperCommand):
    """Command whose help fits the terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _fit_help(self, formatter)
        super().format_help(ctx, formatter)


class CommandGroup(TyperGroup):
    """Group of commands whose help fits the terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        _fit_help(self, formatter)
        super().format_help(ctx, formatter)


class _Commands(CommandGroup):
    """Commands in the order of `_COMMANDS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_COMMANDS.index)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run on the streams of the process; a stream that is replaced, as in a test, is left alone."""
        if sys.stdout is not sys.__stdout__:
            return super().main(*args, **extra)
        install_streams()
        try:
            return super().main(*args, **extra)
        finally:
            if reason := output_failure():
                log(f"jmsnas: cannot write the output: {reason}. Free some disk space, or print elsewhere")
                sys.exit(1)

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        json_errors.set("--json" in args)
        with _one_line_usage_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _one_line_usage_errors():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in ("search", "sweep", "split") and any(
            arg == "--network" or arg.startswith("--network=") for arg in args
        ):
            raise failure(
                "UsageError",
                "there is no option --network: name devices and links with --topology NAME or "
                "--topology FILE.toml",
                2,
            )
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="jmsnas",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"jmsnas {metadata.version('jmsnas')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Profile devices; search, split and deploy neural networks on them. Start with: jmsnas quickstart."""


for _name in (*_COMMANDS, "table_import"):  # each module registers its command on app
    import_module(f"{__name__}.{_name.replace('-', '_')}")
_GROUPS = (import_module(f"{__name__}.table").table_app, import_module(f"{__name__}.topology").topology_app)
for _info in (command for group in (app, *_GROUPS) for command in group.registered_commands):
    _info.cls = _Command
