"""A given split: its placement from cuts or from the layers of each device, and its gap to the optimum."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jmsnas.errors import InfeasibleError, InputError, TopologyError
from jmsnas.nas.split.methods import GIVEN, SplitRequest, SplitResult, split
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.timeline import objective_value
from jmsnas.topology import POLICIES

_NUMBER = re.compile("[0-9]{1,9}")
_RANGE = re.compile("([0-9]{1,9})(?:-([0-9]{1,9}))?")


def devices_from_cuts(problem: SplitProblem, cuts: Sequence[int]) -> tuple[int, ...]:
    """Convert cuts of a chain of devices to the device of each layer.

    Device m runs the layers after cut m-1 up to cut m: M - 1 numbers, or M with the number of layers last.
    Raises InputError.
    """
    N, M, names = problem.N, problem.M, problem.names
    if not problem.is_chain_topology:
        raise InputError(
            f"--cuts need a chain of devices, each linked to the next, got links of {', '.join(names)}: "
            f"give the layers of each device, as --place {names[0]}=1-{N}"
        )
    inner = list(cuts[:-1] if len(cuts) == M and cuts[-1] == N else cuts)
    if len(inner) != M - 1 or inner != sorted(inner) or not all(0 <= cut <= N for cut in inner):
        raise InputError(
            f"got --cuts {','.join(map(str, cuts))}: expected {_cuts_wanted(problem)}. "
            "--list numbers the layers"
        )
    return tuple(
        m for m, (a, b) in enumerate(zip([0, *inner], [*inner, N], strict=True)) for _ in range(a, b)
    )


def parse_cuts(problem: SplitProblem, text: str) -> tuple[int, ...]:
    """Parse cuts such as `4,9,12` into the device of each layer. Raises InputError."""
    words = [word.strip() for word in text.split(",")] if text.strip() or problem.M > 1 else []
    if not all(_NUMBER.fullmatch(word) for word in words):
        raise InputError(f"got --cuts {text[:80]!r}: expected {_cuts_wanted(problem)}")
    return devices_from_cuts(problem, [int(word) for word in words])


def _cuts_wanted(problem: SplitProblem) -> str:
    N, M, before = problem.N, problem.M, ", ".join(problem.names[:-1])
    if M == 1:
        return "no number, as there is one device"
    example = ",".join(str(N * m // M) for m in range(1, M))
    return (
        f"the last layer of {before}: {M - 1} whole numbers from 0 to {N}, none below the one before it, as "
        f"--cuts {example}"
    )


def devices_from_layers(
    problem: SplitProblem, layers: Sequence[tuple[str, Sequence[int]]]
) -> tuple[int, ...]:
    """Convert the layers of each device, counted from 1, to the device of each layer. Raises InputError."""
    N, names, found = problem.N, problem.names, dict[int, int]()
    for name, numbers in layers:
        if name not in names:
            raise InputError(f"--place names the unknown device {name!r}: expected {', '.join(names)}")
        for n in numbers:
            if not 1 <= n <= N:
                raise InputError(
                    f"--place {name} has layer {n}: expected 1 to {N}. --list numbers the layers"
                )
            if found.setdefault(n, names.index(name)) != names.index(name):
                raise InputError(
                    f"--place gives layer {n} to {names[found[n]]} and {name}: expected one device"
                )
    if missing := [n for n in range(1, N + 1) if n not in found]:
        some = ", ".join(map(str, missing[:5])) + ", ..." * (len(missing) > 5)
        raise InputError(f"--place gives layers {some} to no device: expected every layer, 1 to {N}, on one")
    return tuple(found[n] for n in range(1, N + 1))


def placement_of(
    problem: SplitProblem, cuts: Sequence[int] | None, place: Mapping[str, Sequence[int]] | None
) -> tuple[int, ...] | None:
    """Convert cuts or layers by device to the device of each layer; None for neither. Raises InputError."""
    if cuts is not None and place is not None:
        raise InputError("got cuts and place: expected one of them")
    if cuts is not None:
        return devices_from_cuts(problem, cuts)
    return None if place is None else devices_from_layers(problem, list(place.items()))


def parse_places(problem: SplitProblem, texts: Sequence[str]) -> tuple[int, ...]:
    """Parse layers by device such as `pi4=1-4,7` into the device of each layer. Raises InputError."""
    layers: list[tuple[str, list[int]]] = []
    for text in texts:
        name, _, numbers = text.rpartition("=")
        found = [_RANGE.fullmatch(word.strip()) for word in numbers.split(",")]
        ends = [(int(k[1]), int(k[2] or k[1])) for k in found if k]
        if not name or len(ends) < len(found) or any(first > last for first, last in ends):
            raise InputError(
                f"got --place {text[:80]!r}: expected DEVICE=LAYERS, as in --place {problem.names[0]}=1-4,7"
            )
        # A range that is too long ends at the first number that is refused.
        layers += [(name, list(range(first, min(last, problem.N + 1) + 1))) for first, last in ends]
    return devices_from_layers(problem, layers)


@dataclass(frozen=True, slots=True)
class GivenSplit:
    """A given split and the best one it is compared with.

    `best` is of the asked policy, or of the first one that allows the given split; None where no split is
    allowed. `gap` is the share by which the given split's objective is above the best one's, `gap_bound` the
    share by which it is above the lower bound of all splits; None where unknown. `reason` says why there is
    no best split.
    """

    given: SplitResult
    best: SplitResult | None
    gap: float | None
    gap_bound: float | None
    reason: str = ""


def evaluate_split(problem: SplitProblem, request: SplitRequest, devices: Sequence[int]) -> GivenSplit:
    """Evaluate a given placement, and compare it with the best split. Raises as `split`."""
    given = split(problem, replace(request, method=GIVEN, placement=tuple(devices)))
    policy = request.policy
    if not given.allowed:
        others = (p for p in POLICIES if p != policy)
        policy = next((p for p in others if _allowed_by(problem, given.request, p)), policy)
    try:
        best = split(problem, replace(request, method="optimal", placement=None, policy=policy))
    except (InfeasibleError, TopologyError) as error:
        return GivenSplit(given, None, None, None, str(error))
    own, least = (objective_value(found.timeline, request.objective) for found in (given, best))
    return GivenSplit(given, best, _share(own, least), _share(own, best.bound))


def _allowed_by(problem: SplitProblem, request: SplitRequest, policy: str) -> bool:
    return split(problem, replace(request, policy=policy)).allowed


def _share(value: float, least: float | None) -> float | None:
    if least is None or not math.isfinite(value):
        return None
    return value / least - 1 if least else (0.0 if value == least else None)
