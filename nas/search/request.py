"""What was asked for: one search, one a target after a shared warm-up, or a front; and the run's name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jmsnas.errors import InputError
from jmsnas.nas.derivation.target import resolve_target, targets_in_range
from jmsnas.nas.run_result import RunResult
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.multi_target import SearchGroup, front_group, run_groups, targets_group
from jmsnas.nas.search.run import RunOptions, run_search
from jmsnas.nas.search.run_folder import SearchSetup, find_unfinished_run, run_configuration
from jmsnas.workspace import Workspace


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """Targets in seconds, none for the middle of the feasible range, or `levels` targets inside it; a front.

    `front`: how many networks are derived from one search; 0: one a target.
    """

    targets_s: tuple[float, ...] = ()
    levels: int = 1
    front: int = 0

    def __post_init__(self) -> None:
        """Refuse a front of several searches."""
        if self.front and len(self.targets_s) > 1:
            raise InputError(
                f"--front derives from one search, got {len(self.targets_s)} targets: "
                "expected --t-const once at most, or no --front"
            )


def run_request(
    workspace: Workspace,
    setting: SearchSetup,
    config: SearchConfig,
    asked: SearchRequest,
    name: str | None,
    new_name: str,
    how: RunOptions | None = None,
) -> tuple[str, list[RunResult]]:
    """Run what was asked for: under `name`, else where the same was begun and stopped, else `new_name`.

    Gives the name and the runs, one a network. Raises as `run_search` does.
    """
    how = how or RunOptions()
    targets_s: Sequence[float] = asked.targets_s
    if not targets_s and asked.levels > 1 and not asked.front:
        targets_s = targets_in_range(setting.lut, asked.levels)
    first_s = targets_s[0] if targets_s else None
    config = replace(config, t_const_s=resolve_target(setting.lut, first_s).t_const_s)
    group: SearchGroup | None = None
    if asked.front:
        group = front_group("", setting, config, asked.front)
    elif len(targets_s) > 1:
        group = targets_group("", setting, config, targets_s)
    wanted = run_configuration(config, setting, how.ranks)
    if group:
        wanted |= group.said
    name = name or find_unfinished_run(workspace.folder / "runs", wanted) or new_name
    if group is None:
        return name, [run_search(workspace, name, setting, config, how)]
    return name, run_groups(workspace, [replace(group, name=name)], how)[0]
