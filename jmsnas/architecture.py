"""One network of a search space: a candidate a layer. No torch here."""

from dataclasses import dataclass

from jmsnas.errors import SpaceError
from jmsnas.space import Candidate, SearchSpace


@dataclass(frozen=True, slots=True)
class Architecture:
    """One candidate a layer, stem and head among them."""

    candidates: tuple[Candidate, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates by name."""
        return tuple(candidate.name for candidate in self.candidates)

    def indices(self, space: SearchSpace) -> tuple[int, ...]:
        """Column of each layer's candidate in `space.choices`. Raises SpaceError."""
        if len(self.candidates) != space.N:
            raise SpaceError(
                f"an architecture of space {space.name} has {space.N} layers, got {len(self.candidates)}"
            )
        for n, candidate in enumerate(self.candidates):
            if candidate not in space.choices[n]:
                allowed = ", ".join(choice.name for choice in space.choices[n])
                raise SpaceError(f"layer {n + 1} cannot be {candidate.name}: expected one of {allowed}")
        return tuple(space.choices[n].index(c) for n, c in enumerate(self.candidates))
