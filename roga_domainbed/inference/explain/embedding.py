"""The features of test images in the plane, by t-SNE, and how far apart real and fake are in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from roga_domainbed.errors import Failed, RogaError
from roga_domainbed.inference.explain.features import features
from roga_domainbed.inference.explain.test_data import Sample, TestData, read
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.seeds import generator
from roga_domainbed.trainer.evaluation import decide

FEWEST_SAMPLES = 10
_PERPLEXITY = 30.0  # scikit-learn's, and in the range of 5 to 50 of van der Maaten and Hinton (JMLR 9, 2008)


@dataclass(frozen=True)
class Embedding:
    """One run's features of the samples.

    Attributes:
        name: of the run.
        xy: (N, 2) float32 coordinates.
        silhouette: mean silhouette coefficient of real against fake, in [-1, 1], in the features themselves; None
            with one class alone.
        fake: (N,) float64 probabilities of fake.
    """

    name: str
    xy: np.ndarray
    silhouette: float | None
    fake: np.ndarray


@dataclass(frozen=True)
class Embeddings:
    """What the figure shows: the same samples in each run's features.

    Attributes:
        data: name of the dataset or folder.
        samples: N of them.
        runs: one entry a run.
        notes: a sentence for each thing worth knowing.
    """

    data: TestData
    samples: list[Sample]
    runs: list[Embedding]
    notes: list[str]

    def coordinates(self) -> pd.DataFrame:
        """A row a run and sample."""
        described = pd.DataFrame([self._described(sample) for sample in self.samples])
        tables = [
            described.assign(run=run.name, score=run.fake, x=run.xy[:, 0], y=run.xy[:, 1])
            for run in self.runs
        ]
        table = pd.concat(tables, ignore_index=True)
        return table[["run", *described.columns, "score", "x", "y"]]

    def _described(self, sample: Sample) -> dict[str, object]:
        environment = self.data.set_of(sample).environment
        videos, paths = environment.videos, environment.relative_paths
        return {
            "env_name": ", ".join(sample.env_names),
            "index": sample.index,
            "video": None if videos is None else videos[sample.index],
            "path": None if paths is None else paths[sample.index],
            "label": sample.label,
        }


def drawn_samples(data: TestData, n: int, seed: int) -> list[Sample]:
    """``n`` test images, or all if there are fewer, each as likely as any other; the same for equal seeds.

    Raises:
        RogaError: fewer than ``FEWEST_SAMPLES``.
    """
    total = len(data.samples)
    if min(n, total) < FEWEST_SAMPLES:
        raise RogaError(
            f"t-SNE needs at least {FEWEST_SAMPLES} images; {data.name} has {total} test images and --n_samples is {n}"
        )
    if total <= n:
        return data.samples
    chosen = generator(seed, "explained samples").choice(total, n, replace=False)
    return [data.samples[place] for place in sorted(chosen.tolist())]


def embed(
    runs: Mapping[str, SavedRun], data: TestData, samples: list[Sample], seed: int, n_workers: int = 0
) -> Embeddings:
    """Compute the features of ``samples`` for each run, and their t-SNE.

    On a terminal, stderr shows a progress bar.

    Args:
        runs: detectors by their names.
        data: opened for these runs.
        samples: of ``data``, in its order, N ≥ ``FEWEST_SAMPLES``.
        seed: of t-SNE; equal seeds give equal coordinates on one machine.
        n_workers: readers of images.

    Raises:
        Failed: features that are not finite, or the same for all images.
    """
    labels = np.array([sample.label for sample in samples])
    found = []
    with tqdm(total=len(runs) * len(samples), unit="image", disable=None, leave=False) as bar:
        for place, (name, run) in enumerate(runs.items()):
            x, fake = _features(run, data, place, samples, n_workers, bar)
            _require_spread(name, x)
            bar.set_description(f"t-SNE of {name}")
            found.append(Embedding(name, tsne(x, seed), silhouette(x, labels), fake))
            bar.set_description("")
    return Embeddings(data, samples, found, data.notes)


def tsne(x: np.ndarray, seed: int) -> np.ndarray:
    """(N, F) features → (N, 2) coordinates, by scikit-learn's t-SNE from a start by principal components."""
    from sklearn.manifold import TSNE

    perplexity = min(
        _PERPLEXITY, (len(x) - 1) / 3
    )  # of more, every point would be a neighbour of every other
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(x)


def silhouette(x: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean silhouette coefficient (Rousseeuw 1987) of (N, F) features by their (N,) labels; None for one class."""
    from sklearn.metrics import silhouette_score

    if len(np.unique(labels)) < 2:
        return None
    return float(silhouette_score(x, labels))


def _features(
    run: SavedRun, data: TestData, place: int, samples: list[Sample], n_workers: int, bar: tqdm
) -> tuple[np.ndarray, np.ndarray]:
    """(N, F) features and (N,) probabilities of fake."""
    rows, logits = [], []
    with features(run) as compute:
        for x in read(run, data.opened[place], samples, n_workers):
            of_batch, of_logits = compute(x)
            rows.append(of_batch)
            logits.append(of_logits)
            bar.update(len(x))
    return torch.cat(rows).numpy(), decide(torch.cat(logits))[1][:, 1]


def _require_spread(name: str, x: np.ndarray) -> None:
    if not np.isfinite(x).all():
        n_odd = int((~np.isfinite(x).all(axis=1)).sum())
        raise Failed(f"{name}: the features of {n_odd} of {len(x)} images are NaN or infinite")
    if (x == x[0]).all():
        raise Failed(f"{name}: all {len(x)} images have the same features: there is nothing to draw")
