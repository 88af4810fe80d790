"""The data sets by name."""

from jmsnas.datasets.digits import digits
from jmsnas.datasets.splits import Splits
from jmsnas.errors import DatasetError
from jmsnas.space import SearchSpace

LOADERS = {"digits": digits}


def load_dataset(name: str, space: SearchSpace, seed: int) -> Splits:
    """Load a data set for a space. Raises DatasetError when it is unknown or does not fit the space."""
    if name not in LOADERS:
        raise DatasetError(f"unknown data set {name!r}: expected one of {', '.join(LOADERS)}")
    splits = LOADERS[name](seed)
    if (splits.shape, splits.classes) != (space.input_shape, space.classes):
        raise DatasetError(
            f"data set {name} has {splits.classes} classes of {'x'.join(map(str, splits.shape))} images, "
            f"space {space.name} takes {space.classes} classes of {'x'.join(map(str, space.input_shape))}: "
            "choose another --space or --dataset"
        )
    return splits
