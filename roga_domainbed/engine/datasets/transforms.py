"""From a PIL image to the network's input, with DomainBed's augmentation and without."""

from __future__ import annotations

from torchvision import transforms

from roga_domainbed.input.augmentation.spec import IMAGENET_MEAN as _MEAN
from roga_domainbed.input.augmentation.spec import IMAGENET_STD as _STD


def evaluation_transform(side: int) -> transforms.Compose:
    """Resize to ``side`` × ``side`` without cropping, then normalize."""
    return transforms.Compose(
        [transforms.Resize((side, side)), transforms.ToTensor(), transforms.Normalize(_MEAN, _STD)]
    )


def augmenting_transform(side: int) -> transforms.Compose:
    """Random crop, flip, colour jitter and grey, drawn from torch's random state, then normalize."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(side, scale=(0.7, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.3, 0.3, 0.3, 0.3),
            transforms.RandomGrayscale(0.1),
            transforms.ToTensor(),
            transforms.Normalize(_MEAN, _STD),
        ]
    )
