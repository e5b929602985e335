"""The input path of a run: how samples become minibatches, for training and evaluation.

``fast`` keeps decoded images, draws the augmentation of a whole minibatch at once and computes colours on the device.
``exact`` calls the environment's own ``__getitem__`` for each sample. Both draw random numbers from counters alone, so
neither the number of workers nor a resumed run changes a draw. The two draw different numbers from one distribution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from roga_domainbed.errors import RogaError
from roga_domainbed.input.augmentation import apply, draws
from roga_domainbed.input.augmentation.geometry import crop_resize_batch
from roga_domainbed.input.augmentation.spec import AUGMENTATIONS, Recipe, named
from roga_domainbed.input.environment import Environment
from roga_domainbed.input.images import Images, images_of
from roga_domainbed.input.minibatches import Batch, EvaluationSamples, IndexSampler, TrainingSamples
from roga_domainbed.input.pairs import FAKE, REAL, pairs, reals_of
from roga_domainbed.input.prefetch import Prefetcher
from roga_domainbed.input.store import Decoder, open_store
from roga_domainbed.seeds import generator

#: On a processor the activations of 16 images may stay in its cache: Meso-4 takes half as long as with 64.
_EVALUATION_BATCH = {"cpu": 16, "cuda": 256}


@dataclass(frozen=True)
class InputOptions:
    """The command line's options of input.

    Attributes:
        mode: ``fast`` or ``exact``; ``fast`` becomes ``exact`` for data that cannot be read in batches.
        cache: ``auto``, ``off`` or a folder; see ``store.open_store``.
        augmentation: name of one that replaces the dataset's own on augmented environments; None keeps it.
    """

    mode: str = "fast"
    cache: str = "auto"
    augmentation: str | None = None


class InputPath:
    """Reads the environments of a run.

    Args:
        environments: all of the dataset.
        options: of the command line.
        name: of the dataset.
        seed: the run's ``--seed``.
        n_workers: threads or processes that prefetch; 0 reads on demand.
        device: where batches go.

    Raises:
        RogaError: an augmentation was chosen and the data cannot have it.
    """

    def __init__(
        self,
        environments: Sequence[Environment],
        options: InputOptions,
        *,
        name: str,
        seed: int,
        n_workers: int,
        device: torch.device,
    ):
        self._environments, self._seed, self._device = environments, seed, device
        self._n_workers = n_workers
        self._images: list[Images] | None = None
        self._store: Decoder | None = None
        if options.mode == "fast":
            found = [images_of(environment) for environment in environments]
            if all(images is not None for images in found):
                self._images = found
        if options.augmentation is not None:
            self._replace_augmentation(options)
        if self._images is not None:
            self._store = open_store(self._images, options.cache, name)
        self._evaluation: tuple[Any, Prefetcher] | None = None

    def _replace_augmentation(self, options: InputOptions) -> None:
        augmentation = named(options.augmentation)
        if self._images is None:
            why = "--input exact" if options.mode == "exact" else "a dataset whose transform is not known"
            raise RogaError(f"hparam 'augmentation' works on decoded images and does not go with {why}")
        if augmentation.self_blend:
            classes = np.unique(np.concatenate([images.labels for images in self._images]))
            if not set(classes.tolist()) <= {REAL, FAKE}:
                raise RogaError(
                    f"hparam 'augmentation' {options.augmentation!r} is for the classes 0 real and 1 fake; the data "
                    f"has {len(classes)} classes"
                )
        self._images = [images.augmented(augmentation) for images in self._images]

    def describe(self) -> dict[str, Any]:
        """For the records, what decides numbers: the path, and how training images are augmented."""
        if self._images is None:
            return {"path": "exact"}
        recipes = {images.recipe.augmentation for images in self._images} - {AUGMENTATIONS["none"]}
        names = sorted(_name_of(augmentation) for augmentation in recipes)
        return {"path": "fast", "augmentation": "+".join(names) or "none"}

    def sentence(self) -> str:
        """For the person who watches: how images are read."""
        readers = f"{self._n_workers} read ahead"
        if self._images is None:
            return f"Input: each image by the dataset's own code; {readers}."
        where = {
            "memory": "kept in memory",
            "file": "in a packed file",
            "none": "decoded at each access",
        }[self._store.kind]
        augmentation = self.describe()["augmentation"]
        return f"Input: minibatches at once, images {where}; augmentation {augmentation}; {readers}."

    def minibatches(
        self, envs: Sequence[int], samplers: Sequence[IndexSampler], purpose: str, steps: range
    ) -> Iterator[list[Batch]]:
        """One list of (x, y) a step, an entry for each environment, on the device.

        Args:
            envs: indices of the environments.
            samplers: one for each of them.
            purpose: separates the training minibatches from the unlabelled ones.
            steps: which steps.
        """
        if self._images is None:
            chosen = [self._environments[env] for env in envs]
            for batches in self._prefetched(TrainingSamples(chosen, samplers, self._seed, purpose), steps):
                yield [self._moved(batch) for batch in batches]
            return
        recipes = [self._images[env].recipe for env in envs]
        work = _TrainingImages(self, envs, samplers, purpose)
        for batches in self._prefetched(work, steps):
            yield [
                (self._finished(x, drawn, recipe), y.to(self._device, non_blocking=True))
                for (x, y, drawn), recipe in zip(batches, recipes, strict=True)
            ]

    def evaluation(self, parts: Sequence[tuple[int, Sequence[int]]]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(position among ``parts``, x, y) of each batch of each part, without augmentation, in order.

        Args:
            parts: (environment, indices). Reader processes stay for the next call with the same parts.
        """
        size = _EVALUATION_BATCH[self._device.type]
        tasks, positions = [], []
        for position, (env, indices) in enumerate(parts):
            for start in range(0, len(indices), size):
                tasks.append((env, tuple(indices[start : start + size])))
                positions.append(position)
        if self._evaluation is None or self._evaluation[0] != tasks:
            fast = self._images is not None
            work = _EvaluationImages(self) if fast else EvaluationSamples(self._environments, self._seed)
            self._evaluation = tasks, self._prefetched(work, tasks)
        for position, (env, _), (x, y) in zip(positions, tasks, self._evaluation[1], strict=True):
            if self._images is not None:
                x, y = self._finished(x, None, self._images[env].plain), y.to(self._device)
            else:
                x, y = self._moved((x, y))
            yield position, x, y

    def _prefetched(self, work: Any, tasks: Sequence[Any]) -> Prefetcher:
        # Threads share the images that are kept. Decoding, and a dataset's own code, hold the interpreter's lock.
        processes = self._store is None or self._store.kind == "none"
        pin = self._device.type == "cuda"
        return Prefetcher(work, tasks, workers=self._n_workers, processes=processes, pin=pin)

    def _moved(self, batch: Batch) -> Batch:
        x, y = batch
        return x.to(self._device, non_blocking=True), y.to(self._device, non_blocking=True)

    def _finished(self, x: Tensor, drawn: draws.Draws | None, recipe: Recipe) -> Tensor:
        """The network's input on the device; if a worker has made it already, it is only moved."""
        if x.dtype == torch.float32:
            return x.to(self._device, non_blocking=True)
        x = x.to(self._device, non_blocking=True)
        if x.shape[-1] == 3 and x.shape[1] != 3:  # whole images (B, H, W, 3)
            x = crop_resize_batch(x, drawn.boxes, drawn.flip, recipe.side)
        return apply.to_input(x, drawn, recipe)


class _TrainingImages:
    """Step → (x, y, draws) of each environment: network input on a processor, bytes for a GPU."""

    def __init__(self, path: InputPath, envs: Sequence[int], samplers: Sequence[IndexSampler], purpose: str):
        self._store, self._seed, self._purpose = path._store, path._seed, purpose
        self._images = [path._images[env] for env in envs]
        self._envs = envs
        self._sizes = [sampler.batch_size for sampler in samplers]
        self._samplers = [
            reals_of(sampler, images.labels, env) if images.recipe.augmentation.self_blend else sampler
            for env, images, sampler in zip(envs, self._images, samplers, strict=True)
        ]
        self._on_cpu = path._device.type == "cpu"

    def __call__(self, step: int) -> list[tuple[Tensor, Tensor, draws.Draws | None]]:
        return [self._minibatch(step, position) for position in range(len(self._envs))]

    def _minibatch(self, step: int, position: int) -> tuple[Tensor, Tensor, draws.Draws | None]:
        env, images = self._envs[position], self._images[position]
        recipe = images.recipe
        indices = self._samplers[position].at(self._seed, self._purpose, step, position)
        pixels = [torch.from_numpy(self._store.get(env, int(index))) for index in indices]
        sizes = np.array([image.shape[:2] for image in pixels])
        rng = generator(self._seed, f"{self._purpose} augmentation", step, position)
        drawn = draws.draw(recipe.augmentation, rng, sizes)
        if recipe.augmentation.self_blend:
            purpose = f"{self._purpose} self-blend"
            rngs = [generator(self._seed, purpose, step, position, j) for j in range(len(pixels))]
            x, y, drawn = pairs(pixels, self._sizes[position] - len(pixels), drawn, recipe.side, rngs)
        else:
            y = torch.from_numpy(images.labels[indices])
            if not self._on_cpu and len(np.unique(sizes, axis=0)) == 1 and not drawn.needs_bytes():
                return torch.stack(pixels), y, drawn
            x = apply.to_bytes(pixels, drawn, recipe)
        return (apply.to_input(x, drawn, recipe), y, None) if self._on_cpu else (x, y, drawn)


class _EvaluationImages:
    """(environment, indices) → (x, y), resized and not augmented."""

    def __init__(self, path: InputPath):
        self._store, self._images = path._store, path._images
        self._on_cpu = path._device.type == "cpu"

    def __call__(self, task: tuple[int, Sequence[int]]) -> Batch:
        env, indices = task
        images, plain = self._images[env], self._images[env].plain
        pixels = [torch.from_numpy(self._store.get(env, int(index))) for index in indices]
        sizes = np.array([image.shape[:2] for image in pixels])
        whole = np.column_stack([np.zeros_like(sizes), sizes])
        x = apply.resized(pixels, whole, plain.side)
        return (apply.to_input(x, None, plain) if self._on_cpu else x), torch.from_numpy(
            images.labels[list(indices)]
        )


def _name_of(augmentation: Any) -> str:
    for name, known in AUGMENTATIONS.items():
        if known == augmentation:
            return name
    return "the dataset's own"
