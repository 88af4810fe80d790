"""How the split of a search may be made, beside what the network's file says."""

from dataclasses import dataclass, replace

from jmsnas.topology import Topology


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """What is asked for; None leaves what the network's file says.

    Attributes
    ----------
    split
        `joint`: operations and cuts together. `fixed`: the layers of each device are given (the paper).
    policy, input_encoding
        As of `Topology`.
    min_layers
        Layers the first device runs at least; 1 or more keeps the raw input on it.
    """

    split: str = "joint"
    policy: str | None = None
    input_encoding: str | None = None
    min_layers: int | None = None

    def of(self, topology: Topology) -> Topology:
        """Give the network as asked for. Raises NetworkError."""
        if self.policy is not None:
            topology = replace(topology, policy=self.policy)
        if self.input_encoding is not None:
            topology = replace(topology, input_encoding=self.input_encoding)
        if self.min_layers is not None:
            first, *others = topology.devices
            topology = replace(topology, devices=(replace(first, min_layers=self.min_layers), *others))
        return topology


AS_IN_FILE = SplitOptions()
