"""Plan of a few-shot profile: the most informative blocks first, and the error at which to stop."""

from dataclasses import dataclass

from jmsnas.errors import InputError
from jmsnas.estimators.few_shot.experimental_design import informative_rows
from jmsnas.estimators.regression.features import features
from jmsnas.profiler.plan import ProfilePlan
from jmsnas.space import Block, BlockOrPart, Part

# Fewer have too few geometries for cross-validation.
MIN_BLOCKS = 5
DEFAULT_BLOCKS = 20


@dataclass(frozen=True, slots=True)
class FewShotPlan:
    """Blocks in the order in which to measure them, and when to stop.

    Attributes
    ----------
    order, parts
        All blocks of a plan, the most informative first; its whole models, which are all measured.
    blocks
        Number of blocks to measure first.
    until_mape
        Mean error, as a share, at which to stop measuring more; None: measure no more.
    """

    order: tuple[Block, ...]
    parts: tuple[Part, ...]
    blocks: int
    until_mape: float | None = None

    @property
    def initial(self) -> tuple[BlockOrPart, ...]:
        """The blocks and whole models that are measured first."""
        return (*self.order[: self.blocks], *self.parts)

    @property
    def as_plan(self) -> ProfilePlan:
        """The blocks and whole models that are measured first as a plan, for printing."""
        groups: dict[str, tuple[BlockOrPart, ...]] = {
            f"the most informative blocks, of {len(self.order)}": self.order[: self.blocks],
            "whole models, to correct sums of blocks": self.parts,
        }
        return ProfilePlan(tuple((title, group) for title, group in groups.items() if group))


def make_few_shot_plan(
    plan: ProfilePlan, blocks: int | None = None, until_percent: float | None = None
) -> FewShotPlan:
    """Order the blocks of a plan by information, the most informative first.

    `blocks` is the number to measure first, 5 or more (None: 20; all where the plan has fewer);
    `until_percent` the mean error in percent at which to stop measuring more (None: measure no more). Raises
    InputError when either is out of range, or there are too many blocks to choose from.
    """
    if blocks is not None and blocks < MIN_BLOCKS:
        raise InputError(
            f"cannot fit U(.) to {blocks} blocks and estimate its error: expected --blocks {MIN_BLOCKS} "
            "or more"
        )
    if until_percent is not None and not 0 < until_percent < 100:
        raise InputError(
            f"got --until-mape {until_percent:g}: expected a mean error in percent, above 0 and below 100, "
            "as in 5"
        )
    known = [subject for subject in plan.subjects if isinstance(subject, Block)]
    order = tuple(known[row] for row in informative_rows(features(known), len(known)).tolist())
    parts = tuple(subject for subject in plan.subjects if isinstance(subject, Part))
    share = None if until_percent is None else until_percent / 100
    return FewShotPlan(order, parts, blocks or DEFAULT_BLOCKS, share)
