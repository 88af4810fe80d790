"""A leader in a process of its own, to be killed: FOLDER SEED name=address=fingerprint..."""

import sys
from pathlib import Path

from deployments import pieces, segments

from jmsnas.deploy.fleet import Address
from jmsnas.deploy.leader import Leader
from jmsnas.deploy.local import leader_certs


def main() -> None:
    folder, seed, *words = sys.argv[1:]
    agents = {address.name: address for address in (Address(*word.split("=")) for word in words)}
    leader = Leader(leader_certs(Path(folder)), agents)
    made = segments(int(seed))
    print("ships", flush=True)
    leader.ship(pieces(), made)
    print("done", flush=True)


if __name__ == "__main__":
    main()
