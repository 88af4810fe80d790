from dataclasses import replace

import numpy as np
import pytest
from brute_force_splits import all_terms
from synthetic_luts import limited_lut, random_lut, random_mesh

from jmsnas.nas.latency.alternatives import split_alternatives


@pytest.mark.parametrize("seed", range(8))
def test_alternatives_on_a_chain_by_brute_force(seed: int) -> None:
    lut = random_lut(5, 3, 3, seed, call=0.3)
    indices = (0,) * 5
    tau_NM = lut.tau_NM(indices)
    cuts_KM, tau_KM, epsilon_KM = all_terms(tau_NM, lut.epsilon_LM, "relay", call_M=lut.call_M)
    totals_K = (tau_KM + epsilon_KM).sum(axis=1)
    found = split_alternatives(lut, indices)
    assert found.best_split_s == pytest.approx(totals_K.min(), rel=1e-9)
    counts_M = np.diff(cuts_KM[totals_K.argmin()], prepend=0)
    assert found.best_devices == tuple(f"device{m}" for m in np.flatnonzero(counts_M))
    assert found.device_only_s == pytest.approx(tau_NM[:, 0].sum() + lut.call_M[0], rel=1e-12)


def test_alternatives_on_a_mesh_and_under_limits() -> None:
    mesh = random_mesh(3, (1, 2), 2, 2, 4, alike=False, call=0.3)
    indices = (0,) * 8
    found = split_alternatives(mesh, indices)
    assert found.best_split_s is not None
    assert found.best_split_s <= mesh.best_split(indices)[0] * (1 + 1e-9)
    assert {"child0", "child1"} <= set(found.best_devices)
    lut = limited_lut(1, "relay", 0.5, (0, 1, 2))
    none = tuple(replace(own, limit_M=np.zeros(3)) for own in lut.resources)
    forbidden = split_alternatives(replace(lut, resources=none), (0,) * 5)
    assert (forbidden.best_split_s, forbidden.best_devices) == (None, ())
