"""A15: of two leaders the one with the lower epoch is refused, loudly, and what serves goes on."""

from pathlib import Path

import pytest
from deployments import fleet, images, pieces, segments
from prove.proof import Proof

from jmsnas.errors import DeployError


def test_the_lower_epoch_is_refused(tmp_path: Path, proof: Proof) -> None:
    with fleet(tmp_path) as three:
        one, two = three.leader, three.new_leader()
        one.ship(pieces(), segments(0))
        two.ship(pieces(), segments(1))
        (x,) = images(1)
        before = two.ask(x)
        # The first goes on with the number it knows.
        from jmsnas.deploy.manifest import sign, to_bytes
        from jmsnas.deploy.plan import shipments

        made = shipments(pieces(), segments(0), one.agents, one._cluster, one._fingerprint, one.epoch)
        content = to_bytes(made["laptop"].manifest)
        with pytest.raises(
            DeployError, match=f"plan {one.epoch} is not newer than plan {two.epoch}.*another leader"
        ):
            one.peers["laptop"].offer(content, sign(content, one._key))
        two.ship(pieces(), segments(1))
        with pytest.raises(DeployError, match="is not served here, but"):
            one.ask(x)
        assert two.ask(x).logits.tobytes() == before.logits.tobytes()
        two.close()
    proof.show("plan offered, requests sent by the older leader: refused, named; the newer serves on")
