"""Which few blocks of a plan to measure, and until what error to go on."""

from dataclasses import dataclass

from jmsnas.errors import InputError
from jmsnas.estimators.few_shot.experimental_design import informative_order
from jmsnas.profiler.plan import ProfilePlan
from jmsnas.space import Block, BlockOrPart, Part

# Fewer hold no geometries to leave out and others to learn from.
MIN_BLOCKS = 5
DEFAULT_BLOCKS = 20


@dataclass(frozen=True, slots=True)
class FewShotPlan:
    """The blocks to choose from, those that teach most first, and what is asked for.

    Attributes
    ----------
    order, parts
        All blocks of a plan in teaching order; its whole networks, which are all measured.
    blocks
        How many of the blocks to measure whatever they show.
    until_mape
        The mean error, as a share, until which more are measured; None: no more.
    """

    order: tuple[Block, ...]
    parts: tuple[Part, ...]
    blocks: int
    until_mape: float | None = None

    @property
    def initial(self) -> tuple[BlockOrPart, ...]:
        """What is measured whatever it shows."""
        return (*self.order[: self.blocks], *self.parts)

    @property
    def as_plan(self) -> ProfilePlan:
        """The same as a plan, to show."""
        groups: dict[str, tuple[BlockOrPart, ...]] = {
            f"the blocks that teach most, of {len(self.order)}": self.order[: self.blocks],
            "whole networks, to correct sums by": self.parts,
        }
        return ProfilePlan(tuple((what, group) for what, group in groups.items() if group))


def make_few_shot_plan(
    plan: ProfilePlan, blocks: int | None = None, until_percent: float | None = None
) -> FewShotPlan:
    """Put the blocks of a plan in teaching order.

    Parameters
    ----------
    plan
        What could be measured.
    blocks
        How many to measure, 5 or more; None: 20. All, where there are no more.
    until_percent
        Largest mean error in percent, until which more are measured.

    Raises
    ------
    InputError
        When either makes no sense, or there are too many blocks to choose from.
    """
    if blocks is not None and blocks < MIN_BLOCKS:
        raise InputError(
            f"cannot fit U(.) to {blocks} blocks and say how sure it is: expected --blocks {MIN_BLOCKS} "
            "or more"
        )
    if until_percent is not None and not 0 < until_percent < 100:
        raise InputError(
            f"got --until-mape {until_percent:g}: expected a mean error in percent, above 0 and below 100, "
            "as in 5"
        )
    order = informative_order([subject for subject in plan.subjects if isinstance(subject, Block)])
    parts = tuple(subject for subject in plan.subjects if isinstance(subject, Part))
    share = None if until_percent is None else until_percent / 100
    return FewShotPlan(order, parts, blocks or DEFAULT_BLOCKS, share)
