"""Augmentations as numbers, by name, and the reading of torchvision's transforms into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from roga_domainbed.errors import RogaError, unknown_name

#: Channel means and standard deviations of ImageNet: what pretrained backbones expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training image, in this order; zero or None leaves a step out.

    Attributes:
        crop_scale: range of the share of the image's area that is cut out and resized (torchvision's
            RandomResizedCrop); None resizes the whole image.
        crop_ratio: range of the cut's width over its height.
        flip: probability of mirroring left to right.
        brightness, contrast, saturation, hue: torchvision's ColorJitter, the four in random order.
        gray: probability of losing all colour.
        blur: probability of a Gaussian blur.
        blur_sigma: range of its σ in pixels of the network's input; None draws a kernel of 3, 5 or 7 pixels instead.
        tint: probability that each colour is shifted, by up to 20 levels.
        exposure: probability of ``pixel · (1 + c) + b``.
        exposure_limit: c and b, which is in units of the full range, are drawn from ± this.
        jpeg: probability of JPEG compression.
        jpeg_quality: range of its quality on libjpeg's scale, whole numbers, both ends included.
        self_blend: whether a minibatch is made of reals and, right after the flip, of fakes blended from them; see
            ``input.pairs``. A fake and its real share the later steps.
    """

    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] | None = None
    tint: float = 0.0
    exposure: float = 0.0
    exposure_limit: float = 0.1
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (40, 100)
    self_blend: bool = False


def _cnn_aug(chance: float) -> Augmentation:
    return Augmentation(flip=0.5, blur=chance, blur_sigma=(0.0, 3.0), jpeg=chance, jpeg_quality=(30, 100))


#: DomainBed's is its image folders'. DeepfakeBench's is its training configuration without the steps that have
#: probability 0 there; of its choice among three colour changes it keeps brightness and contrast. CNN-Aug's
#: are Blur+JPEG (0.1) and (0.5) of Wang et al., CNN-generated images are surprisingly easy to spot… for now
#: (arXiv:1912.11035). Faces are cut out already, so its random crop is left out, and Pillow alone compresses.
#: SBI's are those of Self-Blended Images (arXiv:2204.08376), after its blending.
AUGMENTATIONS = {
    "none": Augmentation(),
    "flip": Augmentation(flip=0.5),
    "domainbed": Augmentation(
        crop_scale=(0.7, 1.0), flip=0.5, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.3, gray=0.1
    ),
    "deepfakebench": Augmentation(flip=0.5, blur=0.5, exposure=0.5, jpeg=0.5),
    "cnn_aug_0.1": _cnn_aug(0.1),
    "cnn_aug_0.5": _cnn_aug(0.5),
    "sbi": Augmentation(flip=0.5, tint=0.3, exposure=0.3, exposure_limit=0.3, jpeg=0.5, self_blend=True),
}


def named(name: str) -> Augmentation:
    """The augmentation ``name``; ``RogaError`` lists the known ones."""
    if name not in AUGMENTATIONS:
        raise RogaError(unknown_name("augmentation", str(name), list(AUGMENTATIONS)))
    return AUGMENTATIONS[name]


@dataclass(frozen=True)
class Recipe:
    """From a decoded image to a network's input.

    Attributes:
        side: height and width of the input.
        mean, std: per channel, of pixels in [0, 1]; subtracted and divided by.
        augmentation: what comes between; the identity for evaluation.
    """

    side: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    augmentation: Augmentation = AUGMENTATIONS["none"]


def recipe_of(transform: Any) -> Recipe | None:
    """Read a torchvision ``Compose`` that does what a ``Recipe`` can say, in its order; None for any other.

    DomainBed's image folders, upstream's and the engine's, have such transforms.
    """
    from torchvision import transforms as tv

    if type(transform) is not tv.Compose:
        return None
    steps = list(transform.transforms)
    values: dict[str, Any] = {}

    def take(kind: type) -> Any:
        return steps.pop(0) if steps and type(steps[0]) is kind else None

    resize, crop = take(tv.Resize), take(tv.RandomResizedCrop)
    if (resize is None) == (crop is None):
        return None
    sizing = crop or resize
    side = sizing.size
    if isinstance(side, int) or len(side) != 2 or side[0] != side[1]:
        return None  # an int given to Resize is the shorter side
    if sizing.interpolation is not tv.InterpolationMode.BILINEAR or not sizing.antialias:
        return None
    if getattr(resize, "max_size", None) is not None:
        return None
    if crop is not None:
        values.update(crop_scale=tuple(crop.scale), crop_ratio=tuple(crop.ratio))
    if (flip := take(tv.RandomHorizontalFlip)) is not None:
        values["flip"] = flip.p
    if (jitter := take(tv.ColorJitter)) is not None:
        for name, centre in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0)):
            low, high = getattr(jitter, name) or (centre, centre)
            if abs((high - centre) - (centre - low)) > 1e-9:
                return None
            values[name] = round(high - centre, 12)  # 1.3 - 1 is not 0.3
    if (gray := take(tv.RandomGrayscale)) is not None:
        values["gray"] = gray.p
    if take(tv.ToTensor) is None:
        return None
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if (normalize := take(tv.Normalize)) is not None:
        mean, std = tuple(map(float, normalize.mean)), tuple(map(float, normalize.std))
    if steps:
        return None
    return Recipe(int(side[0]), mean, std, Augmentation(**values))
