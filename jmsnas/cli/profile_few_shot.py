"""`jmsnas profile --blocks` and `--until-mape`: measure the most informative blocks, print U(.)'s error."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from jmsnas.cli.output.fit_estimator import draw_evaluation
from jmsnas.cli.output.profile import correction_text
from jmsnas.cli.terminal import print_line
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
    measure: Callable[[Sequence[BlockOrPart], Sequence[RuntimeKey], ProfileOptions], ProfileResult],
    options: ProfileOptions,
) -> tuple[ProfileResult, list[dict[str, Any]]]:
    """Measure the most informative blocks of a device, fit U(.), and draw its evaluation.

    Returns the table, and for each key a document of the accuracy of U(.).
    """

    def measure_for(
        subjects: Sequence[BlockOrPart], keys: Sequence[RuntimeKey], seconds: float | None
    ) -> ProfileResult:
        return measure(subjects, keys, replace(options, budget_s=seconds))

    profiled, results = measure_few_shot(
        plan,
        keys,
        measure_for,
        lambda key: workspace.estimator(device, key.label),
        seed=options.seed,
        budget_s=options.budget_s,
        progress=options.progress,
    )
    for result in results:
        draw_evaluation(FittedEstimator(result.folder, load_estimator(result.folder)))
    return profiled, [few_shot_document(result) for result in results]


def until_mape_document(plan: FewShotPlan) -> dict[str, Any]:
    """Describe the blocks that --until-mape may add; empty without it."""
    if plan.until_mape is None:
        return {}
    more = len(plan.order[plan.blocks :])
    at_most_s = max_duration_s([more], BUDGET_PER_BLOCK_S, None, 0.0)
    return {"until_mape": plan.until_mape, "more_blocks": more, "more_at_most_s": at_most_s}


def few_shot_document(result: FewShotResult) -> dict[str, Any]:
    """Describe the accuracy of U(.) for one runtime key."""
    return {**asdict(result), "key": result.key.label, "folder": str(result.folder)}


def print_few_shot(documents: Sequence[dict[str, Any]]) -> None:
    """Print the documents of `few_shot_document`."""
    for found in documents:
        print_line(
            f"  {found['key']}: U(.) from {found['rows']} blocks of {found['geometries']} layer geometries "
            f"({found['model']})",
            f"    {found['unmeasured']} blocks were not measured: U(.) predicts them",
            f"    expected error (MAPE) on layer geometries that were not measured: {found['mape']:.1%} "
            f"+- {found['mape_standard_error']:.1%}; 90 % of blocks within {found['margin']:.0%}",
        )
        if found["sum_correction"]:
            print_line(f"    {correction_text(found['sum_correction'])}")
        if found["stop_reason"]:
            print_line(
                f"    {'' if found['reached'] else '--until-mape not reached: '}{found['stop_reason']}"
            )
        print_line(f"    {found['folder']}: {', '.join([CARD, *PICTURES])}")
