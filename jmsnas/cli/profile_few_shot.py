"""`jmsnas profile --blocks` and `--until-mape`: the few blocks that teach most, and how sure U(.) is then."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from jmsnas.cli.fit_estimator_output import draw
from jmsnas.cli.profile_output import sums_line
from jmsnas.estimators.few_shot.measure import Surety, measure_few
from jmsnas.estimators.few_shot.plan import FewPlan
from jmsnas.estimators.fit_tables import Fitted
from jmsnas.estimators.store.estimator import load_estimator
from jmsnas.estimators.store.layout import CARD, PICTURES
from jmsnas.profiler.plan import seconds_at_most
from jmsnas.profiler.profile import BUDGET_S_A_BLOCK, Profiled
from jmsnas.profiler.table.latency_table import Key
from jmsnas.progress import Progress
from jmsnas.space import Subject
from jmsnas.workspace import Workspace


def profile_few(
    plan: FewPlan,
    device: str,
    keys: Sequence[Key],
    place: Workspace,
    profile: "partial[Profiled]",
    seed: int,
    budget_s: float | None,
    progress: Progress,
) -> tuple[Profiled, list[dict[str, Any]]]:
    """Measure a few blocks; `profile` is `profile_device` of the device, less what is measured and how long.

    Pictures are drawn beside each estimator. Returns the table as it is now, and for each key a document of
    how sure U(.) is.
    """

    def measure(subjects: Sequence[Subject], keys: Sequence[Key], seconds: float | None) -> Profiled:
        return profile(subjects, keys, budget_s=seconds)

    found, sureties = measure_few(
        plan,
        keys,
        measure,
        lambda key: place.estimator(device, key.label),
        seed=seed,
        budget_s=budget_s,
        progress=progress,
    )
    for surety in sureties:
        draw(Fitted(surety.folder, load_estimator(surety.folder)))
    return found, [surety_document(surety) for surety in sureties]


def until_document(plan: FewPlan) -> dict[str, Any]:
    """Describe what may follow the first blocks; empty where no error is to be reached."""
    if plan.until_mape is None:
        return {}
    more = len(plan.order[plan.blocks :])
    at_most_s = seconds_at_most([more], BUDGET_S_A_BLOCK, None, 0.0)
    return {"until_mape": plan.until_mape, "more_blocks": more, "more_at_most_s": at_most_s}


def surety_document(surety: Surety) -> dict[str, Any]:
    """Describe how sure U(.) of a key is."""
    return {**asdict(surety), "key": surety.key.label, "folder": str(surety.folder)}


def print_sureties(documents: Sequence[dict[str, Any]]) -> None:
    """Print what `surety_document` gave, a key after the other."""
    for found in documents:
        print(
            f"  {found['key']}: U(.) from {found['rows']} blocks of {found['geometries']} layer geometries "
            f"({found['model']})\n"
            f"    {found['left']} of the blocks to choose from are not measured: U(.) answers for them\n"
            f"    blocks of their sort on geometries it never saw: {found['mape']:.1%} off, give or take "
            f"{found['doubt']:.1%}; 9 of 10 blocks within {found['margin']:.0%}"
        )
        if found["sums"]:
            print(f"    {sums_line(found['sums'])}")
        if found["why"]:
            print(f"    {'' if found['reached'] else 'not reached: '}{found['why']}")
        print(f"    {found['folder']}: {', '.join([CARD, *PICTURES])}")
