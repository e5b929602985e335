"""How far an image is from those that a model was trained on: in what is where in it, and to the first convolutions.

An image is described by

- its layout: the mean grey of 8 × 8 fields of the network's input, freed from brightness and contrast, as a distance
  from "face space" sees it (Turk and Pentland, Eigenfaces for Recognition, J. Cognitive Neuroscience 3, 1991);
- the mean and the logarithm of the standard deviation, over its positions, of each channel of the first convolutions
  that ``predict`` runs: colours, sharpness, noise, compression.

A Gaussian is fitted to the training images, with Ledoit and Wolf's shrinkage, and the distance of an image is
Mahalanobis' (as in Lee et al., arXiv:1807.03888, who use the features of all layers, and a mean for each class: one
mean did as well here). The features that the classifier sees are not used: training leaves little in them but real and
fake, and photographs look like generated faces there. Without the layout, so do videos of real people to the
convolutions (``benchmarks/unlike_training.py``).

An image is called unlike the training data where its distance is above that of 99 % of the validation images.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from roga_domainbed.seeds import generator
from roga_domainbed.trainer.evaluation import predict
from roga_domainbed.trainer.experiment import Experiment

#: The key in ``model.pkl``.
KEY = "model_familiarity"

#: Of this share of validation images at most the distance is above the limit.
SHARE = 0.01
N_IMAGES = 2_000  # at most, of the training images and of the validation images
#: Convolutions are taken from the first on as long as their channels are not more; the first one always is.
MOST_CHANNELS = 256

FEWEST_IMAGES = 20  # of the training images and of the validation images
_SMALLEST_VARIANCE = 1e-8
FIELDS = 8  # a side
_SMALLEST_CONTRAST = (
    0.04  # of the fields, whose inputs lie within some units: a picture of one grey has no layout
)
_SMALLEST_DEVIATION = 1e-4  # of a channel, before the logarithm: flat images have none


@dataclass(frozen=True)
class Familiarity:
    """The training images, described.

    Attributes:
        layers: names of the convolutions, in the order in which they run.
        mean: (F,) float32, of the descriptions of the training images.
        whitening: (F, F) float32; maps a difference from the mean to numbers of variance 1 without correlation.
        limit: the distance above which an image is unlike the training images.
        n_images: how many they were.
    """

    layers: tuple[str, ...]
    mean: Tensor
    whitening: Tensor
    limit: float
    n_images: int

    def as_plain(self) -> dict[str, Any]:
        """As ``model.pkl`` keeps it."""
        return {
            "layers": list(self.layers),
            "mean": self.mean,
            "whitening": self.whitening,
            "limit": self.limit,
            "n_images": self.n_images,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Familiarity:
        """Of what ``as_plain`` made."""
        others = (plain[name] for name in ("mean", "whitening", "limit", "n_images"))
        return cls(tuple(plain["layers"]), *others)

    def distances(self, descriptions: Tensor) -> np.ndarray:
        """(N,) float64 of (N, F) descriptions; what is above ``limit`` is unlike the training images."""
        return ((descriptions - self.mean).double() @ self.whitening.double().T).norm(dim=1).numpy()


@contextlib.contextmanager
def described(
    algorithm: Any, layers: Sequence[str] | None = None
) -> Iterator[tuple[list[str], list[Tensor]]]:
    """Inside, each call of ``algorithm.predict`` adds the (B, F) descriptions of its images to a list, on the CPU.

    Args:
        algorithm: whose ``predict`` is watched.
        layers: names of the convolutions that describe images; None for the first ones that run.

    Yields:
        The names of the convolutions, there from the first call on, and the descriptions. Both stay empty where no
        convolution runs, or where it does not run on the whole minibatch.
    """
    convolutions = {
        name: module for name, module in algorithm.named_modules() if isinstance(module, nn.Conv2d)
    }
    names: list[str] = list(layers or ())
    found: list[Tensor] = []
    seen: dict[str, Tensor] = {}

    def hook_of(name: str) -> Any:
        def note(module: nn.Module, args: Any, output: Tensor) -> None:
            # of a network that runs twice, the first time
            if name not in seen and (not names or name in names) and output.dim() == 4:
                seen[name] = _of_channels(output)

        return note

    def watched(x: Tensor) -> Tensor:
        seen.clear()
        with _not_compiled(algorithm):
            logits = inner(x)
        whole = {name: values for name, values in seen.items() if len(values) == len(x)}
        if not names:
            names.extend(_first({name: values.shape[1] // 2 for name, values in whole.items()}))
        if names and whole.keys() >= set(names):
            found.append(torch.cat([_layout(x), *(seen[name] for name in names)], 1).cpu())
        return logits

    handles = [module.register_forward_hook(hook_of(name)) for name, module in convolutions.items()]
    inner, is_own = algorithm.predict, "predict" in vars(algorithm)
    algorithm.predict = watched
    try:
        yield names, found
    finally:
        if is_own:
            algorithm.predict = inner
        else:
            del algorithm.predict  # the method of its class is seen again
        for handle in handles:
            handle.remove()


def familiarity(experiment: Experiment) -> Familiarity | None:
    """The familiarity of the model as it is now, from a pass over some training and validation images.

    The images are the same for every model of a run. None if no convolution of the network sees the images one by one,
    if there are few images, or if what it computes is not finite.
    """
    parts = [
        (env, _subset(experiment, env, name, indices))
        for name in ("in", "out")
        for env in experiment.train_envs
        for indices in [getattr(experiment.splits[env], f"{name}_split")]
    ]
    n_training = sum(len(indices) for _, indices in parts[: len(experiment.train_envs)])
    with described(experiment.algorithm) as (layers, found), experiment.autocast():
        predict(experiment.algorithm, experiment.input.evaluation(parts), len(parts))
    if sum(map(len, found)) != sum(len(indices) for _, indices in parts):
        return None
    descriptions = torch.cat(found)
    training, validation = descriptions[:n_training], descriptions[n_training:]
    if min(len(training), len(validation)) < FEWEST_IMAGES or not torch.isfinite(descriptions).all():
        return None
    made = Familiarity(tuple(layers), *gaussian(training), math.inf, n_training)
    distances = np.sort(made.distances(validation))
    return replace(made, limit=float(distances[len(distances) - 1 - int(SHARE * len(distances))]))


def _subset(experiment: Experiment, env: int, part: str, indices: Sequence[int]) -> Sequence[int]:
    """As many of each training environment."""
    most = N_IMAGES // len(experiment.train_envs)
    if len(indices) <= most:
        return indices
    rng = generator(experiment.config.trial_seed, "familiarity", env, part)
    return [indices[k] for k in np.sort(rng.choice(len(indices), most, replace=False)).tolist()]


def gaussian(descriptions: Tensor) -> tuple[Tensor, Tensor]:
    """The mean, and the whitening that belongs to the covariance, shrunk as Ledoit and Wolf do (JMVA 88, 2004)."""
    from sklearn.covariance import ledoit_wolf

    values = descriptions.double().numpy()
    mean, deviation = values.mean(0), values.std(0)
    deviation[deviation == 0] = 1.0
    covariance, _ = ledoit_wolf((values - mean) / deviation, assume_centered=True)
    variances, axes = np.linalg.eigh(covariance)
    # Shrunk, no variance is 0 unless all are.
    whitening = (axes / np.sqrt(np.maximum(variances, _SMALLEST_VARIANCE))).T / deviation
    return torch.from_numpy(mean).float(), torch.from_numpy(whitening).float()


def _layout(x: Tensor) -> Tensor:
    """(B, 64) of (B, C, H, W) inputs: fields of grey with the mean 0 and the standard deviation 1."""
    fields = nn.functional.adaptive_avg_pool2d(x.detach().float().mean(1, keepdim=True), FIELDS).flatten(1)
    fields = fields - fields.mean(1, keepdim=True)
    return fields / (fields.std(1, keepdim=True, correction=0) + _SMALLEST_CONTRAST)


def _of_channels(output: Tensor) -> Tensor:
    """(B, 2 C) of (B, C, H, W): means, then logarithms of standard deviations."""
    maps = output.detach().float().flatten(2)
    deviations = maps.std(2, correction=0)
    return torch.cat([maps.mean(2), torch.log(deviations + _SMALLEST_DEVIATION)], 1)


def _first(channels: Mapping[str, int]) -> list[str]:
    """The first layers that have ``MOST_CHANNELS`` together at most; the first one in any case."""
    chosen: list[str] = []
    total = 0
    for name, n in channels.items():
        total += n
        if chosen and total > MOST_CHANNELS:
            break
        chosen.append(name)
    return chosen


@contextlib.contextmanager
def _not_compiled(algorithm: nn.Module) -> Iterator[None]:
    """Inside, modules that were compiled in place run as they are: compiled code calls no hook."""
    compiled = [module for module in algorithm.modules() if getattr(module, "_compiled_call_impl", None)]
    kept = [module._compiled_call_impl for module in compiled]
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, own in zip(compiled, kept, strict=True):
            module._compiled_call_impl = own
