"""Options on the split of a search that override those of the topology file."""

from dataclasses import dataclass, replace

from jmsnas.topology import Topology


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """Options on the split; None keeps the value of the topology file.

    `split`: `joint` searches operations and cuts; `fixed`: the layers of each device are given (the paper).
    `min_layers`: of the first device; 1 or more keeps the raw input on it. The others: as of `Topology`.
    """

    split: str = "joint"
    policy: str | None = None
    input_encoding: str | None = None
    min_layers: int | None = None

    def apply_to(self, topology: Topology) -> Topology:
        """Apply the options to a topology. Raises TopologyError."""
        first, *others = topology.devices
        if self.min_layers is not None:
            first = replace(first, min_layers=self.min_layers)
        return replace(
            topology,
            devices=(first, *others),
            policy=topology.policy if self.policy is None else self.policy,
            input_encoding=topology.input_encoding if self.input_encoding is None else self.input_encoding,
        )
