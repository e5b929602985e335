"""Video files scored for evaluation: their frames are sampled, cut out and scored as ``predict`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from roga_domainbed.errors import Problems, shortened
from roga_domainbed.inference.evaluation_sets import EvaluationSet
from roga_domainbed.inference.faces import FaceCutter, Prediction, crops_of_training, in_words
from roga_domainbed.inference.predict import predict_files
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.input.environment import Environment
from roga_domainbed.metrics.split import SplitScores
from roga_domainbed.trainer.evaluation import EvaluatedSplit


class ScoredFiles(Environment):
    """Files whose samples have been scored already.

    Args:
        folder: to which the paths are relative.
        relative_paths: of each sample; frames of a video have the same.
    """

    def __init__(self, folder: Path, relative_paths: Sequence[str]):
        self.folder, self.relative_paths = folder, list(relative_paths)

    def __len__(self) -> int:
        return len(self.relative_paths)


def score_clips(
    run: SavedRun, sets: Sequence[EvaluationSet], detect: bool, problems: Problems
) -> tuple[list[list[Prediction]], list[str]]:
    """The predictions for the video files of each of ``sets``, and notes about them.

    Args:
        run: a detector; see ``detector.as_detector``.
        sets: their clips are scored.
        detect: look for faces; False takes every frame whole.
        problems: collects the files that cannot be read.

    Raises:
        RogaError: a package is missing.
    """
    files = [str(Path(entry.environment.folder, clip.path)) for entry in sets for clip in entry.clips]
    if not files:
        return [[] for _ in sets], []
    options, origin = crops_of_training(run)
    cutter = FaceCutter(options, detect=detect, kinds=["video"])
    predictions = list(predict_files(run, [(path, "video") for path in files], cutter))
    for prediction in predictions:
        if prediction.error:
            problems.add(prediction.error)
    how = in_words(options, origin) if detect else f"frames taken whole, {options.n_frames} frames a video"
    notes = [f"video files: {how}"]
    notes += [f"{prediction.path}: {prediction.note}" for prediction in predictions if prediction.note]
    empty = [prediction.path for prediction in predictions if not prediction.faces and not prediction.error]
    if empty:
        notes.append(
            f"{len(empty)} of {len(files)} video files show no face and have no score: {shortened(empty)}"
        )
    found = iter(predictions)
    return [[next(found) for _ in entry.clips] for entry in sets], notes


def with_clips(
    entry: EvaluationSet, images: EvaluatedSplit | None, predictions: Sequence[Prediction]
) -> EvaluatedSplit:
    """The scores of the images of ``entry``, if it has some, and of the faces in its video files."""
    clips = [
        (clip, face.probability)
        for clip, prediction in zip(entry.clips, predictions, strict=True)
        for face in prediction.faces
    ]
    if images is not None and not clips:
        return images
    fake = np.array([probability for _, probability in clips], np.float64)
    labels = np.array([clip.label for clip, _ in clips], np.int64)
    parts = [SplitScores(labels, (fake > 0.5).astype(np.int64), np.column_stack([1 - fake, fake]), [])]
    videos = [clip.video for clip, _ in clips]
    paths = [clip.path for clip, _ in clips]
    if images is not None:
        parts.insert(0, images.scores)
        videos = [*(images.scores.videos or [None] * len(images.scores.labels)), *videos]
        paths = [*(entry.environment.relative_paths[i] for i in images.scores.indices), *paths]
    joined = [
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("labels", "predicted", "probabilities")
    ]
    scores = SplitScores(*joined, range(len(paths)), videos)
    return EvaluatedSplit(
        entry.env, entry.env_name, entry.part, ScoredFiles(entry.environment.folder, paths), scores
    )
