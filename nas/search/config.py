"""What a search is run with."""

from dataclasses import dataclass

from jmsnas.errors import InputError


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Settings of a search. Defaults: a first run on digits, about a minute on one core.

    recipes.py has those for other data sets, and the paper's own.
    """

    seed: int = 0
    t_const_s: float | None = None  # None: the middle of the feasible range
    band: float = 0.03  # T of the derived network lies in [1 - band, 1] x T_const
    warmup_epochs: int = 10
    search_epochs: int = 20
    final_epochs: int = 30
    batch_size: int = 64
    optimizer: str = "sgd"  # sgd (Nesterov) or adam, of the weights
    lr: float = 0.1
    momentum: float = 0.9
    lambda1: float = 5e-4  # weight of ||theta||^2 in equation (4)
    constraint: str = "penalty"  # or multiplier, see latency_loss.py
    lambda2: float = 5.0  # weight of (E[T] / T_const - 1)^2
    lambda2_per_s2: float | None = None  # in its place: the paper's, of (E[T] - T_const)^2 in seconds squared
    multiplier_rate: float = 0.02
    entropy: float = 0.0  # weight of the entropy of the choices at the end of the search, from 0 at its start
    alpha_lr: float = 0.03  # a few hundred steps are too few for the usual 1e-3
    derive: str = "constrained"  # exact in the band; or argmax, the paper's
    best: int = (
        5  # the likeliest networks in the band, of which the most accurate on held-out images is taken
    )
    threads: int = 1
    train_on: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what no search can run with."""
        for name, value, known in (
            ("constraint", self.constraint, ("penalty", "multiplier")),
            ("derive", self.derive, ("constrained", "argmax")),
            ("optimizer", self.optimizer, ("sgd", "adam")),
        ):
            if value not in known:
                raise InputError(f"unknown {name} {value!r}: expected {' or '.join(known)}")
        for name, count in (("batch_size", self.batch_size), ("best", self.best), ("threads", self.threads)):
            if count < 1:
                raise InputError(f"{name} must be 1 or more, got {count}")
