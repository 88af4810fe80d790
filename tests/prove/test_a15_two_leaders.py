"""A15: of two leaders the one with the lower epoch is refused with an error, and the other keeps serving."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deployments import DEVICES, fleet, images, pieces, segments
from prove.proof import Proof

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.parts.manifest import manifest_bytes
from jmsnas.deploy.parts.shipment import make_shipments
from jmsnas.errors import DeployError

Two = tuple[Leader, Leader]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """An older and a newer leader, each with its plan shipped; the newer one serves."""
    with fleet(tmp_path) as three:
        older, newer = three.leader, three.new_leader()
        older.ship(pieces(), segments(0))
        newer.ship(pieces(), segments(1))
        (x,) = images(1)
        before = newer.infer(x)
        yield older, newer
        assert newer.infer(x).logits.tobytes() == before.logits.tobytes()
        newer.close()


def offer(leader: Leader, device: str, epoch: int) -> list[str]:
    """Offer a device its part of plan `epoch` from a leader, with a valid signature."""
    made = make_shipments(pieces(), segments(0), leader.agents, leader._cluster, leader._fingerprint, epoch)
    content = manifest_bytes(made[device].manifest)
    return leader.clients[device].offer(content, leader._key.sign(content))


def test_the_lower_and_the_same_epoch_are_refused(two: Two, proof: Proof) -> None:
    older, newer = two
    assert older.epoch < newer.epoch
    # The second case is two leaders that continue from the same plan: the number is in use.
    for epoch in (older.epoch, newer.epoch):
        words = f"plan {epoch} is not newer than plan {newer.epoch}.*another leader"
        for device in DEVICES:
            with pytest.raises(DeployError, match=f"{device}: {words}"):
                offer(older, device, epoch)
    proof.show(
        "plans with a lower and with the same number, offered to 3 devices by the older leader: refused"
    )


def test_requests_by_a_plan_that_has_ended(two: Two, proof: Proof) -> None:
    older, newer = two
    newer.ship(pieces(), segments(1))
    (x,) = images(1)
    with pytest.raises(DeployError, match=f"plan {older.epoch} is not served"):
        older.infer(x)
    proof.show("requests by the older leader's plan: refused, named")


def test_each_in_turn(tmp_path: Path, proof: Proof) -> None:
    with fleet(tmp_path) as three:
        turns = [three.leader, three.new_leader()]
        (x,) = images(1)
        for turn in range(6):
            own, other = turns[turn % 2], turns[1 - turn % 2]
            own.ship(pieces(), segments(turn % 2))
            answer = own.infer(x)
            assert answer.epoch == turn + 1
            expected = segments(turn % 2)["chain"].run(x)
            np.testing.assert_allclose(answer.logits, expected, atol=1e-4)
            if other.epoch:
                with pytest.raises(
                    DeployError, match=f"plan {other.epoch} is not newer than plan {turn + 1}"
                ):
                    offer(other, "laptop", other.epoch)
        turns[1].close()
    proof.show("six plans of two leaders in turn: each answers by its own, the other's number is refused")
