"""Hyper-parameters of a search, and named recipes of search space, data set and hyper-parameters."""

from dataclasses import dataclass

from jmsnas.errors import InputError


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Hyper-parameters of a search. Defaults: a first run on digits, about a minute on one core.

    `RECIPES` has those for other data sets, and the paper's own.
    """

    seed: int = 0
    t_const_s: float | None = None  # None: the middle of the feasible range
    percentile: int = 50  # of the measured T that is to meet the deadline, t_const_s + margin_s
    margin_s: float = 0.0
    band: float = 0.03  # T of the derived architecture lies in [1 - band, 1] x T_const
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
    lambda2_per_s2: float | None = None  # instead: the paper's, of (E[T] - T_const)^2 in s^2
    multiplier_rate: float = 0.02
    entropy: float = 0.0  # weight of the mean entropy of p at the end of the search, growing from 0
    alpha_lr: float = 0.03  # the usual 1e-3 is too slow for a few hundred steps
    derive: str = "constrained"  # exact, in the band; or argmax (the paper)
    best: int = 5  # likeliest architectures in the band, of which the most accurate held-out one is taken
    threads: int = 1
    train_on: str = "auto"

    def __post_init__(self) -> None:
        """Refuse invalid values."""
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


@dataclass(frozen=True, slots=True)
class Recipe:
    """Named settings of a search. `levels`: number of values of T_const to search for where none is given."""

    space: str
    dataset: str
    config: SearchConfig
    levels: int = 1


RECIPES = {
    "first-run": Recipe("digits", "digits", SearchConfig()),
    # The weights take 90 % of the time of an epoch: few epochs, and a batch that keeps one core busy.
    "fashion-mnist": Recipe(
        "fashion-mnist",
        "fashion-mnist",
        SearchConfig(warmup_epochs=3, search_epochs=6, final_epochs=8, batch_size=128, alpha_lr=0.01),
    ),
    "cifar": Recipe(
        "cifar",
        "cifar10",
        SearchConfig(warmup_epochs=10, search_epochs=30, final_epochs=100, batch_size=128, alpha_lr=0.005),
    ),
    # Section V-B: 20 warm-up and 60 training epochs, Adam with an initial rate of 0.002, a batch of 512, 200
    # epochs for the compact model, three levels of latency. It gives no rate for alpha and no lambda1: these
    # are 0.002 as well, and ProxylessNAS's decay (arXiv 1812.00332) of 4e-5 = 2 lambda1.
    "paper": Recipe(
        "imagenet",
        "imagenet",
        SearchConfig(
            warmup_epochs=20,
            search_epochs=60,
            final_epochs=200,
            batch_size=512,
            optimizer="adam",
            lr=0.002,
            lambda1=2e-5,
            alpha_lr=0.002,
        ),
        levels=3,
    ),
}


def find_recipe(name: str) -> Recipe:
    """Look up a recipe by name. Raises InputError."""
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[name]
