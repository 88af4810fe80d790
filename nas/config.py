"""What a search is run with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Settings of a search. Defaults: a first run on digits, about a minute on one core.

    The paper's own (20 + 60 + 200 epochs, Adam 0.002, batch 512; section V-B) are for ImageNet.
    """

    seed: int = 0
    t_const_s: float | None = None  # None: the middle of the feasible range
    band: float = 0.03  # T of the derived network lies in [1 - band, 1] x T_const
    warmup_epochs: int = 10
    search_epochs: int = 20
    final_epochs: int = 30
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    lambda1: float = 5e-4  # weight of ||theta||^2 in equation (4)
    lambda2: float = 5.0  # weight of (E[T] / T_const - 1)^2
    alpha_lr: float = 0.03  # a few hundred steps are too few for the usual 1e-3
    threads: int = 1
    train_on: str = "auto"
