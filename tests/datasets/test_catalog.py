import pytest
import torch

from jmsnas.datasets.catalog import load_dataset
from jmsnas.datasets.digits import digits
from jmsnas.errors import DatasetError
from jmsnas.space_file import load_space


def test_digits_as_they_are() -> None:
    splits = digits(0)
    assert [len(part) for part in (splits.train, splits.arch, splits.test)] == [1078, 359, 360]
    assert splits.shape == (1, 8, 8) and splits.classes == 10
    assert splits.train.pixels.min() == -1 and splits.train.pixels.max() == 1
    assert len(splits.train_and_arch) == 1437


def test_the_seed_draws_all_but_the_test_images() -> None:
    first, again, other = digits(1), digits(1), digits(2)
    assert torch.equal(first.train.pixels, again.train.pixels)
    assert not torch.equal(first.train.pixels, other.train.pixels)
    assert torch.equal(first.test.pixels, other.test.pixels)


def test_no_image_is_in_two_parts() -> None:
    splits = digits(3)
    parts = [
        {tuple(image.flatten().tolist()) for image in p.pixels}
        for p in (splits.train, splits.arch, splits.test)
    ]
    # The digits hold no two equal images.
    assert len(parts[0] | parts[1] | parts[2]) == 1797


def test_unknown_data_set_or_one_that_does_not_fit() -> None:
    with pytest.raises(DatasetError, match="unknown data set 'mnist': expected one of digits, fashion-mnist"):
        load_dataset("mnist", load_space("digits"), 0)
    with pytest.raises(
        DatasetError, match="digits has 10 classes of 1x8x8 images, space imagenet takes 1000 classes"
    ):
        load_dataset("digits", load_space("imagenet"), 0)
