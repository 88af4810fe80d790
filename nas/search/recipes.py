"""Settings that belong together: a space, a data set, and what a search over them is run with."""

from dataclasses import dataclass

from jmsnas.errors import InputError
from jmsnas.nas.search.config import SearchConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """A search by name. `levels`: how many values of T_const it searches for where none is given."""

    space: str
    dataset: str
    config: SearchConfig
    levels: int = 1


RECIPES = {
    "first-run": Recipe("digits", "digits", SearchConfig()),
    # Nine tenths of an epoch's time are the weights': few epochs, a batch that keeps one core busy.
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
    # Section V-B to the letter: 20 warm-up and 60 training epochs, Adam with an initial rate of 0.002, a
    # batch of 512, 200 epochs for the compact model, three levels of latency. It names no rate of its own for
    # alpha and no lambda1: the same 0.002, and ProxylessNAS's decay (arXiv 1812.00332) of 4e-5 = 2 lambda1.
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


def recipe(name: str) -> Recipe:
    """Find a recipe. Raises InputError."""
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[name]
