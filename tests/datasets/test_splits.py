import torch

from jmsnas.datasets.splits import InMemoryImages, hold_out_images, random_flip, random_shift


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_shift_moves_an_image_by_a_pixel_at_most() -> None:
    x = torch.arange(1.0, 17).reshape(1, 1, 4, 4).expand(200, 1, 4, 4)
    seen = {tuple(image.flatten().tolist()) for image in random_shift(x, draw())}
    assert len(seen) == 9  # 3 x 3 shifts, all of them drawn
    assert tuple(x[0].flatten().tolist()) in seen
    up_left = (6, 7, 8, 0, 10, 11, 12, 0, 14, 15, 16, 0, 0, 0, 0, 0)
    assert up_left in seen


def test_half_of_the_images_are_mirrored() -> None:
    x = torch.arange(1.0, 5).reshape(1, 1, 1, 4).expand(400, 1, 1, 4)
    seen = [tuple(image.flatten().tolist()) for image in random_flip(x, draw())]
    assert set(seen) == {(1, 2, 3, 4), (4, 3, 2, 1)}
    assert 160 < seen.count((4, 3, 2, 1)) < 240  # four standard deviations of 400 coins: 40


def test_bytes_become_numbers_of_unit_variance() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    images = InMemoryImages(pixels, torch.tensor([0]), mean=(0.2,), deviation=(0.4,))
    (x,) = images.plain([torch.tensor([0])])
    # (0 - 0.2) / 0.4, (0.2 - 0.2) / 0.4, (1 - 0.2) / 0.4.
    torch.testing.assert_close(x.flatten(), torch.tensor([-0.5, 0.0, 2.0]))


def test_images_are_kept_for_the_architecture() -> None:
    pixels = torch.arange(100.0).reshape(100, 1, 1, 1)
    train, test = InMemoryImages(pixels, torch.zeros(100)), InMemoryImages(pixels + 100, torch.zeros(100))
    first, again, other = (hold_out_images("x", train, test, (1, 1, 1), 10, seed, 30) for seed in (0, 0, 1))
    assert isinstance(first.arch, InMemoryImages) and isinstance(first.train, InMemoryImages)
    assert isinstance(again.arch, InMemoryImages) and isinstance(other.arch, InMemoryImages)
    assert len(first.arch) == 30 and len(first.train) == 70 and first.train_and_arch is train
    assert not set(first.arch.pixels.flatten().tolist()) & set(first.train.pixels.flatten().tolist())
    assert torch.equal(first.arch.pixels, again.arch.pixels)
    assert not torch.equal(first.arch.pixels, other.arch.pixels)
