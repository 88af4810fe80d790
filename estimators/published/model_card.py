"""The model card of an estimator that was fitted to a table others published."""

from collections.abc import Sequence

from jmsnas.estimators.evaluation.evaluate import Evaluation
from jmsnas.estimators.published.table import PublishedRows
from jmsnas.estimators.store.fit_record import FitRecord
from jmsnas.estimators.store.model_card import errors_section, model_section


def published_card(
    rows: PublishedRows, recipe: FitRecord, evaluation: Evaluation, margins: Sequence[float]
) -> str:
    """Write the card in Markdown; `margins` as in `jmsnas.estimators.store.model_card.model_card`."""
    origin, key = rows.origin, recipe.key
    facts = [
        f"- device: {', '.join(word for word in (origin.device, origin.processor) if word)}",
        f"- run time, as the table calls it: {origin.runtime or 'not said'}; batch {origin.batch}",
        f"- {len(rows.shapes)} rows of MBConvs and identities",
        *([f"- left out: {rows.left_out_summary}"] if rows.left_out else []),
        *([f"- from: {'; '.join(sources)}"] if (sources := _sources(rows)) else []),
    ]
    versions = ", ".join(f"{name} {text}" for name, text in recipe.versions.items())
    parts = [
        f"# Latency estimator U(.) of {origin}",
        "**PUBLISHED: all rows were measured by others**, and nothing is known of how but what the table "
        "says. The errors below say how well the estimator follows that table.",
        "\n".join(facts),
        f"It answers with the seconds of one call of a block, and stands here as `{recipe.device}` under the "
        f"key `{key.label}`, the one most like what the table says. A row that is a block of JMSNAS answers "
        "as it stands, unless the quality gate finds an error in it; other blocks are predicted.",
        errors_section(evaluation, margins),
        model_section(recipe),
        _limits(rows),
        f"## To fit it again\n\n```\njmsnas fit-estimator --table FILE --seed {recipe.seed}\n```\n\n"
        "`table.parquet` (the rows as they were published) and `recipe.json` beside this card are what it is "
        f"loaded from; rows' SHA-256 `{recipe.table_sha256}`. First fitted with {versions}.",
    ]
    return "\n\n".join(parts) + "\n"


def _sources(rows: PublishedRows) -> list[str]:
    found = rows.sources
    return [*found] if len(found) <= 4 else [*found[:3], f"and {len(found) - 3} more"]


def _limits(rows: PublishedRows) -> str:
    channels = [n for shape in rows.shapes for n in (shape.in_channels, shape.out_channels)]
    sizes = [n for shape in rows.shapes for n in (shape.height, shape.width)]
    return "\n".join(
        [
            "## Not good for",
            "",
            f"- blocks far from what it saw: {min(channels)} to {max(channels)} channels, {min(sizes)} to "
            f"{max(sizes)} pixels a side;",
            "- stems, heads and poolings, of which it saw none;",
            "- another device, run time, batch, clock or cooling than the table's.",
        ]
    )
