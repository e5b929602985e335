"""Each operation with fixed factors, and what is drawn, against torchvision on PIL images."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image
from scipy import stats
from torchvision import transforms as tv

from roga_domainbed.engine.datasets.transforms import augmenting_transform, evaluation_transform
from roga_domainbed.input.augmentation import apply, colour, draws
from roga_domainbed.input.augmentation.degrade import blur, jpeg, smooth
from roga_domainbed.input.augmentation.geometry import crop_resize, crop_resize_batch
from roga_domainbed.input.augmentation.spec import (
    AUGMENTATIONS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Recipe,
    recipe_of,
)
from roga_domainbed.seeds import generator


def picture(height=96, width=96, seed=0):
    """A smooth colourful image with some noise, as PIL."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), float)
    return Image.fromarray((image + rng.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8))


def levels(image):
    """(1, 3, H, W) float, 0 to 255."""
    return np.asarray(image, np.float32).transpose(2, 0, 1)[None]


OPERATIONS = {
    "brightness": (colour.brightness, TF.adjust_brightness),
    "contrast": (colour.contrast, TF.adjust_contrast),
    "saturation": (colour.saturation, TF.adjust_saturation),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("factor", [0.0, 0.7, 1.0, 1.3])
def test_jitters_equal_torchvisions_to_its_rounding(name, factor):
    ours, theirs = OPERATIONS[name]
    found = 255 * ours(levels(picture()) / 255, factor)
    assert np.abs(found - levels(theirs(picture(), factor))).max() < 1.1  # PIL truncates to whole levels


@pytest.mark.parametrize("turns", [-0.3, -0.1, 0.0, 0.05, 0.3])
def test_hue_equals_torchvisions_on_floats(turns):
    x = levels(picture()) / 255
    theirs = TF.adjust_hue(torch.from_numpy(x[0]), turns).numpy()
    assert np.abs(colour.hue(x.copy(), turns)[0] - theirs).max() < 1e-5


def test_hue_and_gray_of_pil_are_ours_to_the_error_of_its_tables():
    x = levels(picture()) / 255
    difference = np.abs(255 * colour.hue(x.copy(), 0.2) - levels(TF.adjust_hue(picture(), 0.2)))
    assert difference.mean() < 1.5
    assert difference.max() < 20  # hue has 256 steps there
    assert np.abs(255 * colour.grayscale(x) - levels(TF.rgb_to_grayscale(picture(), 3))).max() < 1


@pytest.mark.parametrize("operation", [colour.brightness, colour.contrast, colour.saturation, colour.hue])
def test_numpy_and_torch_agree_also_with_a_factor_for_each_image(operation):
    x = np.concatenate([levels(picture(seed=seed)) for seed in range(3)]) / 255
    factors = np.array([0.2, 0.8, 1.25], np.float32)
    each = [operation(x[i : i + 1].copy(), float(factors[i]))[0] for i in range(3)]
    at_once = operation(torch.from_numpy(x.copy()), torch.from_numpy(factors).view(-1, 1, 1, 1))
    assert np.abs(np.stack(each) - at_once.numpy()).max() < 2e-6


@pytest.mark.parametrize("size", [(96, 96), (64, 64), (50, 80), (200, 120)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_crop_resize_and_mirror_equal_pil(size, mirrored):
    image = picture(*size)
    top, left, height, width = 3, 5, size[0] - 8, size[1] - 11
    theirs = TF.resized_crop(image, top, left, height, width, [64, 64])
    theirs = levels(TF.hflip(theirs) if mirrored else theirs)[0]
    pixels = torch.from_numpy(np.array(image))
    boxes, flip = np.array([[top, left, height, width]]), np.array([mirrored])
    one_by_one = crop_resize([pixels], boxes, flip, 64)[0].float().numpy()
    at_once = crop_resize_batch(pixels[None], boxes, flip, 64)[0].numpy()
    assert np.abs(one_by_one - theirs).max() <= 1
    assert np.abs(at_once - theirs).max() <= 2


def test_domainbeds_transforms_are_recognized_and_evaluation_equals_the_transform():
    augmented = Recipe(224, IMAGENET_MEAN, IMAGENET_STD, AUGMENTATIONS["domainbed"])
    assert recipe_of(augmenting_transform(224)) == augmented
    image, transform = picture(90, 70), evaluation_transform(64)
    recipe = recipe_of(transform)
    pixels = apply.resized([torch.from_numpy(np.array(image))], np.array([[0, 0, 90, 70]]), 64)
    found = apply.to_input(pixels, None, recipe)[0]
    assert recipe == Recipe(64, IMAGENET_MEAN, IMAGENET_STD)
    # a level at most, in units of the standard deviation
    assert (found - transform(image)).abs().max() < 1.01 / 255 / min(IMAGENET_STD)


@pytest.mark.parametrize(
    "steps",
    [
        [tv.Resize(64), tv.ToTensor()],  # the shorter side: another shape
        [tv.Resize((64, 64)), tv.ToTensor(), tv.RandomErasing()],
        [tv.Resize((64, 64)), tv.RandomVerticalFlip(), tv.ToTensor()],
        [tv.Resize((64, 64)), tv.ColorJitter(brightness=(0.5, 2)), tv.ToTensor()],
        [tv.Resize((64, 64), interpolation=tv.InterpolationMode.BICUBIC), tv.ToTensor()],
        [tv.RandomHorizontalFlip(), tv.Resize((64, 64)), tv.ToTensor()],
        [tv.ToTensor()],
    ],
)
def test_a_transform_that_does_something_else_is_not(steps):
    assert recipe_of(tv.Compose(steps)) is None


def drawn(n=4000, name="domainbed", size=(96, 128)):
    return draws.draw(AUGMENTATIONS[name], generator(0, "test"), np.tile(size, (n, 1)))


def test_boxes_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    image = torch.empty(3, 96, 128)
    theirs = np.array(
        [tv.RandomResizedCrop.get_params(image, (0.7, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)]
    )
    ours = drawn().boxes
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.001
    for statistic in (
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 3] / b[:, 2],
        lambda b: b[:, 0] / (97 - b[:, 2]),
    ):
        assert stats.ks_2samp(statistic(ours), statistic(theirs)).pvalue > 0.001


def test_a_box_that_never_fits_falls_back_to_torchvisions_centred_one():
    torch.manual_seed(0)
    for height, width in ((10, 200), (200, 10)):
        theirs = tv.RandomResizedCrop.get_params(torch.empty(3, height, width), (0.7, 1.0), (3 / 4, 4 / 3))
        assert drawn(3, size=(height, width)).boxes.tolist() == [list(theirs)] * 3


def test_factors_orders_and_chances_are_distributed_as_torchvisions():
    d = drawn()
    for name, (low, high) in {
        "brightness": (0.7, 1.3), "contrast": (0.7, 1.3), "saturation": (0.7, 1.3), "hue": (-0.3, 0.3),
    }.items():  # fmt: skip
        assert stats.kstest(d.factors[name], stats.uniform(low, high - low).cdf).pvalue > 0.001
    _, counts = np.unique(d.order, axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 0.001
    for flags, chance in ((d.flip, 0.5), (d.gray, 0.1)):
        assert stats.binomtest(int(flags.sum()), len(flags), chance).pvalue > 0.001


def test_whole_images_are_distributed_as_torchvisions():
    """Summaries of 500 augmented images on each side, by Kolmogorov and Smirnov."""
    image, side = picture(72, 72), 64
    transform = augmenting_transform(side)
    torch.manual_seed(0)
    theirs = torch.stack([transform(image) for _ in range(500)])
    recipe = recipe_of(transform)
    pixels = [torch.from_numpy(np.array(image))] * 500
    d = draws.draw(recipe.augmentation, generator(0, "images"), np.full((500, 2), 72))
    ours = apply.to_input(apply.to_bytes(pixels, d, recipe), d, recipe)
    for summary in (
        lambda x: x.mean(dim=(1, 2, 3)),
        lambda x: x.std(dim=(1, 2, 3)),
        lambda x: (x[:, 0] - x[:, 2]).mean(dim=(1, 2)),
        lambda x: x[:, 1, 5, 9],
        lambda x: x[:, :, :, :32].mean(dim=(1, 2, 3)) - x[:, :, :, 32:].mean(dim=(1, 2, 3)),
    ):
        assert stats.ks_2samp(summary(ours), summary(theirs)).pvalue > 0.001


def test_a_sample_does_not_depend_on_its_neighbours_sizes():
    sizes = np.array([[96, 128], [30, 40], [64, 64]])
    first = draws.draw(AUGMENTATIONS["domainbed"], generator(0, "a"), sizes)
    sizes[1] = (500, 20)
    second = draws.draw(AUGMENTATIONS["domainbed"], generator(0, "a"), sizes)
    assert np.array_equal(first.boxes[[0, 2]], second.boxes[[0, 2]])
    assert np.array_equal(first.factors["hue"], second.factors["hue"])


def test_deepfakebenchs_set_blurs_exposes_and_compresses_half_of_the_images():
    d = drawn(name="deepfakebench")
    for chosen in (d.flip, d.blur > 0, d.jpeg > 0, (d.exposure != (1, 0)).any(axis=1)):
        assert stats.binomtest(int(chosen.sum()), len(chosen), 0.5).pvalue > 0.001
    assert set(d.blur[d.blur > 0]) == {3, 5, 7}
    assert (d.jpeg[d.jpeg > 0].min(), d.jpeg.max()) == (40, 100)
    assert np.abs(d.exposure - (1, 0)).max() <= 0.1
    assert d.order is None
    assert not d.gray.any()


@pytest.mark.parametrize("chance", [0.1, 0.5])
def test_cnn_aug_blurs_and_compresses_that_share_of_the_images_each_on_its_own(chance):
    d = drawn(name=f"cnn_aug_{chance}")
    chosen, compressed = d.sigma > 0, d.jpeg > 0
    for flags, expected in ((d.flip, 0.5), (chosen, chance), (compressed, chance)):
        assert stats.binomtest(int(flags.sum()), len(flags), expected).pvalue > 0.001
    assert stats.binomtest(int((chosen & compressed).sum()), len(chosen), chance**2).pvalue > 0.001
    assert stats.kstest(d.sigma[chosen], stats.uniform(0, 3).cdf).pvalue > 0.001
    assert set(d.jpeg[compressed]) <= set(range(30, 101))
    if chance == 0.5:  # 2000 draws of 71 qualities; 400 may leave one out
        counts = np.bincount(d.jpeg[compressed], minlength=101)[30:]
        assert stats.chisquare(counts).pvalue > 0.001
    assert not d.blur.any()
    assert (d.exposure == (1, 0)).all()
    assert d.needs_bytes()


@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.7, 3.0])
def test_a_blur_of_any_sigma_equals_torchvisions_away_from_the_edges(sigma):
    half = int(4 * sigma + 0.5)
    image = torch.from_numpy(np.array(picture())).permute(2, 0, 1)
    theirs = TF.gaussian_blur(image, 2 * half + 1, sigma)
    inside = (..., slice(half, 96 - half), slice(half, 96 - half))
    assert (smooth(image, sigma).int() - theirs.int())[inside].abs().max() <= 1
    assert torch.equal(smooth(image.clone(), 0.1), image)


def test_a_blurred_impulse_is_the_bell_worked_by_hand():
    image = torch.zeros(1, 41, 41, dtype=torch.uint8)
    image[0, 20, 20] = 255
    found = smooth(image, 1.0)[0].numpy()
    bell = np.exp(-(np.arange(-4, 5) ** 2) / 2) / np.sqrt(2 * np.pi)  # the tails beyond 4 σ are 6e-5
    assert np.abs(found[16:25, 16:25] - 255 * np.outer(bell, bell)).max() <= 0.51
    edge = torch.zeros(1, 9, 9, dtype=torch.uint8)
    edge[:, :, 0] = 200  # mirrored with its last pixel: weights of 0, -1 and no other column fall on it
    expected = 200 * (bell[4] + bell[3])
    assert abs(int(smooth(edge, 1.0)[0, 4, 0]) - expected) <= 0.51


def test_cnn_augs_bytes_are_blurred_and_then_compressed():
    recipe = Recipe(96, augmentation=AUGMENTATIONS["cnn_aug_0.5"])
    d = draws.draw(recipe.augmentation, generator(0, "x"), np.full((24, 2), 96))
    pixels = torch.from_numpy(np.array(picture()))
    found = apply.to_bytes([pixels] * 24, d, recipe)
    both = int(np.flatnonzero((d.sigma > 0) & (d.jpeg > 0))[0])
    neither = int(np.flatnonzero((d.sigma == 0) & (d.jpeg == 0))[0])
    for row in (both, neither):
        wanted = (pixels.flip(1) if d.flip[row] else pixels).permute(2, 0, 1).contiguous()
        if row == both:
            wanted = jpeg(smooth(wanted, float(d.sigma[row])), int(d.jpeg[row]))
        assert torch.equal(found[row], wanted)


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_blur_equals_torchvisions_with_opencvs_sigma(kernel):
    image = torch.from_numpy(np.array(picture())).permute(2, 0, 1)
    theirs = TF.gaussian_blur(image, kernel, 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8)
    assert (blur(image, kernel).int() - theirs.int()).abs().max() <= 1


def test_jpeg_is_libjpegs(tmp_path):
    picture().save(tmp_path / "x.jpg", quality=40)
    found = jpeg(torch.from_numpy(np.array(picture())).permute(2, 0, 1), 40)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.array(Image.open(tmp_path / "x.jpg")))


def test_deepfakebenchs_bytes_are_those_of_its_steps_in_order():
    recipe = Recipe(96, augmentation=AUGMENTATIONS["deepfakebench"])
    d = draws.draw(recipe.augmentation, generator(3, "x"), np.full((16, 2), 96))
    row = int(np.flatnonzero((d.blur > 0) & (d.jpeg > 0) & (d.exposure[:, 0] != 1))[0])
    pixels = torch.from_numpy(np.array(picture()))
    found = apply.to_bytes([pixels] * 16, d, recipe)[row]
    wanted = (pixels.flip(1) if d.flip[row] else pixels).permute(2, 0, 1)
    wanted = blur(wanted, int(d.blur[row])).float() * d.exposure[row, 0] + 255 * d.exposure[row, 1]
    assert torch.equal(found, jpeg(wanted.round().clamp(0, 255).byte(), int(d.jpeg[row])))
