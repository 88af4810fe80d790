"""Completion latency T of a split model: equations (1) and (2) of the paper.

Takes and returns floats (one split), numpy arrays (many splits at once) or torch tensors (differentiable).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from jmsnas.errors import TopologyError


@dataclass(frozen=True, slots=True)
class Branch:
    """Terms of child m of the tree in equation (2): eps^{r->m}, tau_D^m and eps^m, in seconds."""

    epsilon_root_s: Any
    tau_s: Any
    epsilon_s: Any


def maximum(a: Any, b: Any) -> Any:
    """Return the maximum of two numbers, elementwise for arrays and tensors."""
    if hasattr(a, "maximum") or hasattr(b, "maximum"):  # torch tensors; torch is not imported for floats
        tensor, other = (a, b) if hasattr(a, "maximum") else (b, a)
        return tensor.maximum(other if hasattr(other, "maximum") else tensor.new_tensor(other))
    return np.maximum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else max(a, b)


def completion_latency(
    tau_chain_s: Sequence[Any],
    epsilon_chain_s: Sequence[Any],
    tau_root_s: Any = 0.0,
    branches: Sequence[Branch] = (),
    fan_out: str = "broadcast",
) -> Any:
    r"""Compute the completion latency T of a split model, in seconds.

    Equation (1), chain (no branches):
    ``T = sum_m (tau_D^m + eps^m)``, with ``tau_D^m`` the sum of tau_n^m over n in D^m, ``eps^m`` the
    time to send the output of layer d(m) onward and eps^M = 0.

    Equation (2), mesh: ``T = sum_{m in C} (tau_D^m + eps^m)
    + max_{m in T\{r}} (tau_D^r + eps^{r->m} + tau_D^m + eps^m)``.

    Parameters
    ----------
    tau_chain_s, epsilon_chain_s
        tau_D^m and eps^m of each device of C.
    tau_root_s
        tau_D^r of the root of the tree.
    branches
        One for each child that runs layers; empty on a chain.
    fan_out
        `broadcast` (the paper): all children receive at once. `serial`: the root sends to one child after
        the other, in the order of `branches`.
    """
    if len(tau_chain_s) != len(epsilon_chain_s):
        raise TopologyError(
            f"got {len(tau_chain_s)} tau for {len(epsilon_chain_s)} epsilon: expected one of each per device"
        )
    total = tau_root_s
    for tau_s, epsilon_s in zip(tau_chain_s, epsilon_chain_s, strict=True):
        total = total + tau_s + epsilon_s
    if not branches:
        return total
    arrivals = [branch.epsilon_root_s for branch in branches]
    if fan_out == "serial":
        arrivals = list(accumulate(arrivals))
    ends = [a + branch.tau_s + branch.epsilon_s for a, branch in zip(arrivals, branches, strict=True)]
    longest = ends[0]
    for end in ends[1:]:
        longest = maximum(longest, end)
    return total + longest
