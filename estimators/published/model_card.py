"""Model card, in Markdown, of an estimator fitted to a published latency table."""

from collections.abc import Sequence

from jmsnas.estimators.evaluation.evaluate import Evaluation
from jmsnas.estimators.published.table import PublishedRows
from jmsnas.estimators.store.fit_record import FitRecord
from jmsnas.estimators.store.model_card import errors_section, limits_section, model_section


def published_card(
    rows: PublishedRows, record: FitRecord, evaluation: Evaluation, margins: Sequence[float]
) -> str:
    """Write the card in Markdown; `margins` as in `jmsnas.estimators.store.model_card.model_card`."""
    origin, key = rows.origin, record.key
    facts = [
        f"- device: {', '.join(name for name in (origin.device, origin.processor) if name)}",
        f"- runtime, as named in the table: {origin.runtime or 'not given'}; batch {origin.batch}",
        f"- {len(rows.shapes)} rows of MBConvs and identities",
        *([f"- left out: {rows.left_out_summary}"] if rows.left_out else []),
        *([f"- from: {'; '.join(sources)}"] if (sources := _sources(rows)) else []),
    ]
    versions = ", ".join(f"{name} {text}" for name, text in record.versions.items())
    parts = [
        f"# Latency estimator U(.) of {origin}",
        "**PUBLISHED: all rows were measured by others**, and only what the table states is known of the "
        "measurements. The errors below are those against that table.",
        "\n".join(facts),
        f"It predicts the seconds of one call of a block. Its device name here is `{record.device}`, its key "
        f"`{key.label}`, the one closest to the table's setting. For a block of JMSNAS that is in the table "
        "it returns the table's latency, unless the quality gate finds an error in it; other blocks are "
        "predicted.",
        errors_section(evaluation, margins),
        model_section(record),
        limits_section(
            rows.shapes,
            "stems, heads and poolings, of which it has no rows;",
            "another device, runtime, batch, clock or cooling than the table's.",
        ),
        f"## To fit it again\n\n```\njmsnas fit-estimator --table FILE --seed {record.seed}\n```\n\n"
        "It is loaded from `table.parquet` (the rows as they were published) and `recipe.json` beside this "
        f"card; SHA-256 of the rows: `{record.table_sha256}`. First fitted with {versions}.",
    ]
    return "\n\n".join(parts) + "\n"


def _sources(rows: PublishedRows) -> list[str]:
    found = rows.sources
    return [*found] if len(found) <= 4 else [*found[:3], f"and {len(found) - 3} more"]
