"""A saved model as a detector: which of its classes is fake, by their names or as the user says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.foreign import printable, quoted
from roga_domainbed.inference.model_inputs import kind_of_images
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.input.classes import FAKE, REAL_AND_FAKE, fake_class
from roga_domainbed.trainer.image_kind import FACES


def as_detector(run: SavedRun, purpose: str, real: Collection[str] = (), fake: Collection[str] = ()) -> None:
    """Number the classes of ``run`` so that 0 is real and 1 fake, whatever they were in training.

    Args:
        run: changed in place.
        purpose: what wants a detector, for the message.
        real: classes that the user says are real. They count if both classes are named; their names do otherwise.
        fake: those that are fake.

    Raises:
        RogaError: the model is not about real and fake, or nobody knows which class is which.
    """
    classes = class_names(run)
    numbered = classes or [str(index) for index in range(run.num_classes)]
    is_said = set(numbered) <= {*real, *fake}
    index = fake_class(numbered, real, fake) if is_said else fake_class(numbered)
    if index is None:
        raise RogaError(_refusal(run, purpose, classes))
    if index != fake_class(numbered):
        run.calibration = None  # its thresholds are of the class that is fake by its name
    if index != FAKE:
        _swap_classes(run.algorithm)


def check_said(run: SavedRun, folders: Sequence[str], real: Collection[str], fake: Collection[str]) -> None:
    """Refuse names that are said to be real or fake and are neither classes of the model nor ``folders``.

    Raises:
        RogaError: such a name, or one that is said to be both.
    """
    problems = Problems()
    classes = class_names(run) or [str(index) for index in range(run.num_classes)]
    for option, names in (("--real", real), ("--fake", fake)):
        for name in names:
            if name not in (*classes, *folders):
                known = f"the classes of the model are {quoted(classes)}"
                known += f"; the folders are {quoted(folders, 10)}" if folders else ""
                problems.add(f"{option} {name!r} names nothing here: {known}")
    for name in set(real) & set(fake):
        problems.add(f"{name!r} cannot be both --real and --fake")
    problems.check()


def class_names(run: SavedRun) -> tuple[str, ...] | None:
    """Names of the model's classes; None if it does not say, as those of version 0.1.0 on folders of images."""
    if run.class_names is not None:
        return run.class_names
    return REAL_AND_FAKE if kind_of_images(run) == FACES else None


def require_fake_is_1(run: SavedRun, purpose: str) -> None:
    """Refuse a model that was not trained to tell 0, real, from 1, fake.

    Raises:
        RogaError: it is another one, or does not say.
    """
    classes = class_names(run)
    if classes is None or fake_class(classes) != FAKE:
        numbered = f"the classes {quoted(classes)}" if classes else "classes without names"
        raise RogaError(
            f"{purpose} is for models with the classes 0, real, and 1, fake; this one has {numbered}"
        )


def _refusal(run: SavedRun, purpose: str, classes: tuple[str, ...] | None) -> str:
    start = f"{purpose} is for models that tell real from fake; this one"
    trained = f"(it was trained on {printable(str(run.args.get('dataset')))})"
    if run.num_classes != 2:
        names = f": {quoted(classes)}" if classes else ""
        return f"{start} knows {run.num_classes} classes{names} {trained}"
    if classes is None:
        return (
            f"{start} has two classes and does not say which is which {trained}. If you know, pass the number of each: "
            "--real 0 --fake 1 where class 1 is fake"
        )
    return (
        f"{start} tells {quoted(classes[:1])} from {quoted(classes[1:])} {trained}. If one of them is real and the "
        "other fake, say so with --real NAME --fake NAME, these two names"
    )


def _swap_classes(algorithm: Any) -> None:
    inner = algorithm.predict

    def predict(x: torch.Tensor) -> torch.Tensor:
        logits = inner(x).reshape(len(x), -1)
        return -logits if logits.shape[1] == 1 else logits.flip(1)

    algorithm.predict = predict
