"""Mean and standard deviation by which the pixels of each data set are normalised."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation, per channel, of pixels scaled to 0 .. 1."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NORMALISATIONS = {
    "digits": Normalisation((0.5,), (0.5,)),  # to -1 .. 1
    "fashion-mnist": Normalisation((0.286,), (0.353,)),
    "cifar10": Normalisation((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    "imagenette": IMAGENET,
    "imagenet": IMAGENET,
}
