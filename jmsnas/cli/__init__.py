"""The command line: one file a verb; each parses, calls one library function, prints."""

from typing import Any

import typer
from typer.core import TyperGroup


class _InOrder(TyperGroup):
    """Verbs and groups of verbs in the order a person meets them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = typer.Typer(
    name="jmsnas",
    cls=_InOrder,
    help="From a measured device to a searched and split neural network. Start with: jmsnas quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


@app.callback()
def _root() -> None:
    """From a measured device to a searched and split neural network. Start with: jmsnas quickstart."""


from jmsnas.cli import (  # noqa: E402 - each registers its verb on app
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

# In the order a person meets them; `table` is a group of verbs.
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
