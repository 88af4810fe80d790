"""The command line: one file a verb; each parses, calls one library function, prints."""

import typer

app = typer.Typer(
    name="jmsnas",
    help="From a measured device to a searched and split neural network. Start with: jmsnas quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


@app.callback()
def _root() -> None:
    """From a measured device to a searched and split neural network. Start with: jmsnas quickstart."""


from jmsnas.cli import fit_estimator, profile, quickstart, report, search  # noqa: E402, F401 - registers its verb on app

# In the order a person meets them.
_ORDER = ("quickstart", "profile", "fit-estimator", "search", "report")
app.registered_commands.sort(key=lambda command: _ORDER.index(str(command.name)))
