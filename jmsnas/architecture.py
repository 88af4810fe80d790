"""An architecture of a search space: one candidate for each layer. Does not import torch."""

from dataclasses import dataclass

from jmsnas.errors import SpaceError
from jmsnas.space import Candidate, SearchSpace


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model of a search space, given as one candidate per layer, including stem and head."""

    candidates: tuple[Candidate, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the candidates, layer by layer."""
        return tuple(candidate.name for candidate in self.candidates)

    def indices(self, space: SearchSpace) -> tuple[int, ...]:
        """Index of each layer's candidate in `space.choices`. Raises SpaceError."""
        if len(self.candidates) != space.N:
            raise SpaceError(
                f"an architecture of space {space.name} has {space.N} layers, got {len(self.candidates)}"
            )
        for n, candidate in enumerate(self.candidates):
            if candidate not in space.choices[n]:
                allowed = ", ".join(choice.name for choice in space.choices[n])
                raise SpaceError(f"layer {n + 1} cannot be {candidate.name}: expected one of {allowed}")
        return tuple(space.choices[n].index(c) for n, c in enumerate(self.candidates))
