"""Options on the split of a search that override those of the topology file."""

from dataclasses import dataclass, replace

from jmsnas.topology import Topology


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """Options on the split; None keeps the value of the topology file.

    Attributes
    ----------
    split
        `joint`: search operations and cuts. `fixed`: the layers of each device are given (the paper).
    policy, input_encoding
        As of `Topology`.
    min_layers
        Minimum number of layers of the first device; 1 or more keeps the raw input on it.
    """

    split: str = "joint"
    policy: str | None = None
    input_encoding: str | None = None
    min_layers: int | None = None

    def apply_to(self, topology: Topology) -> Topology:
        """Apply the options to a topology. Raises TopologyError."""
        if self.policy is not None:
            topology = replace(topology, policy=self.policy)
        if self.input_encoding is not None:
            topology = replace(topology, input_encoding=self.input_encoding)
        if self.min_layers is not None:
            first, *others = topology.devices
            topology = replace(topology, devices=(replace(first, min_layers=self.min_layers), *others))
        return topology


AS_IN_FILE = SplitOptions()
