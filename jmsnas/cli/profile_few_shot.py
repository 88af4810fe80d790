"""`jmsnas profile --blocks` and `--until-mape`: the few blocks that teach most, and how sure U(.) is then."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from jmsnas.cli.fit_estimator_output import draw_evaluation
from jmsnas.cli.profile_output import correction_text
from jmsnas.estimators.few_shot.measure import FewShotResult, measure_few_shot
from jmsnas.estimators.few_shot.plan import FewShotPlan
from jmsnas.estimators.fit_tables import FittedEstimator
from jmsnas.estimators.store.estimator import load_estimator
from jmsnas.estimators.store.layout import CARD, PICTURES
from jmsnas.profiler.plan import max_duration_s
from jmsnas.profiler.profile import BUDGET_PER_BLOCK_S, ProfileOptions, ProfileResult
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.space import BlockOrPart
from jmsnas.workspace import Workspace


def profile_few_shot(
    plan: FewShotPlan,
    device: str,
    keys: Sequence[RuntimeKey],
    workspace: Workspace,
    profile: "partial[ProfileResult]",
    options: ProfileOptions,
) -> tuple[ProfileResult, list[dict[str, Any]]]:
    """Measure a few blocks; `profile` is `profile_device` of the device, less what is measured and how long.

    Pictures are drawn beside each estimator. Returns the table as it is now, and for each key a document of
    how sure U(.) is.
    """

    def measure(
        subjects: Sequence[BlockOrPart], keys: Sequence[RuntimeKey], seconds: float | None
    ) -> ProfileResult:
        return profile(subjects, keys, options=replace(options, budget_s=seconds))

    found, sureties = measure_few_shot(
        plan,
        keys,
        measure,
        lambda key: workspace.estimator(device, key.label),
        seed=options.seed,
        budget_s=options.budget_s,
        progress=options.progress,
    )
    for surety in sureties:
        draw_evaluation(FittedEstimator(surety.folder, load_estimator(surety.folder)))
    return found, [few_shot_document(surety) for surety in sureties]


def until_mape_document(plan: FewShotPlan) -> dict[str, Any]:
    """Describe what may follow the first blocks; empty where no error is to be reached."""
    if plan.until_mape is None:
        return {}
    more = len(plan.order[plan.blocks :])
    at_most_s = max_duration_s([more], BUDGET_PER_BLOCK_S, None, 0.0)
    return {"until_mape": plan.until_mape, "more_blocks": more, "more_at_most_s": at_most_s}


def few_shot_document(surety: FewShotResult) -> dict[str, Any]:
    """Describe how sure U(.) of a key is."""
    return {**asdict(surety), "key": surety.key.label, "folder": str(surety.folder)}


def print_few_shot(documents: Sequence[dict[str, Any]]) -> None:
    """Print what `few_shot_document` gave, a key after the other."""
    for found in documents:
        print(
            f"  {found['key']}: U(.) from {found['rows']} blocks of {found['geometries']} layer geometries "
            f"({found['model']})\n"
            f"    {found['left']} of the blocks to choose from are not measured: U(.) answers for them\n"
            f"    blocks of their sort on geometries it never saw: {found['mape']:.1%} off, give or take "
            f"{found['doubt']:.1%}; 9 of 10 blocks within {found['margin']:.0%}"
        )
        if found["sums"]:
            print(f"    {correction_text(found['sums'])}")
        if found["why"]:
            print(f"    {'' if found['reached'] else 'not reached: '}{found['why']}")
        print(f"    {found['folder']}: {', '.join([CARD, *PICTURES])}")
