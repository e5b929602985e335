r"""How often a model calls images unlike what it was trained on: those that are, and those that are not.

    python benchmarks/unlike_training.py --photographs FOLDER [--identity '\d+'] [--videos FOLDER] [--others FOLDER]
        [--work FOLDER]

FOLDER has portraits, of which SelfBlend is made as docs/selfblend.md says. One model is trained on SynthFake and one
on SelfBlend, NT held out of both, Meso-4 on faces of 64 pixels. Then the share of images that each calls unlike is
counted: of the test people of its own data, of the manipulation that it was not trained on, of the other dataset's
reals and fakes, of the faces in eight frames of each of ``--videos``, and of the pictures of ``--others``, taken whole.
A limit is the distance that 1 % or 5 % of the validation images exceed; a model's file has the first. The same is done
with the first convolutions alone and with the features that the classifier sees, the choices that were not made. Takes
two minutes of one core; with ``--work`` the data and models are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from datasets_ext.synthfake.generate import generate
from roga_domainbed.cli import main as command
from roga_domainbed.inference.evaluation_sets import EvaluationSet, dataset_sets, open_images, own_sets
from roga_domainbed.inference.explain.features import features
from roga_domainbed.inference.faces import FaceCutter, crops_of_training
from roga_domainbed.inference.model_inputs import to_tensor
from roga_domainbed.inference.saved_run import SavedRun, load_run
from roga_domainbed.input.image_files import read_image
from roga_domainbed.input.tree import MEDIA_SUFFIXES, VIDEO_SUFFIXES, files_below
from roga_domainbed.results.records import is_done
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.familiarity import FIELDS, described, gaussian
from roga_domainbed.trainer.run import train

HPARAMS = {"backbone": "meso4", "image_size": 64, "pretrained": False, "batch_size": 16, "lr": 0.003}
STEPS = {"SynthFake": 200, "SelfBlend": 300}
LEFT_OUT = 3  # NT
SHARES = (1, 5)  # of the validation images, in percent
MOST = 400  # images of a part
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--identity", default=r"\d+", help="as of 'prepare selfblend'")
    parser.add_argument("--videos", type=Path, help="videos of people")
    parser.add_argument("--others", type=Path, help="pictures of something else")
    parser.add_argument("--work", type=Path, help="where data and models go (default: removed at the end)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        make_data(work / "data", args.photographs, args.identity)
        for own, other in (("SynthFake", "SelfBlend"), ("SelfBlend", "SynthFake")):
            show(trained(work, own), str(work / "data"), other, args.videos, args.others)


def make_data(data_dir: Path, photographs: Path, identity: str) -> None:
    """What is there already is kept."""
    generate(data_dir)
    argv = ["prepare", "selfblend", "--faces", photographs, "--identity", identity, "--data_dir", data_dir]
    if command([*map(str, argv), "--size", "64", "--n_frames", "2"]):
        raise SystemExit("SelfBlend could not be made")


def trained(work: Path, dataset: str) -> SavedRun:
    """The model; trained if it is not there."""
    folder = work / f"ERM on {dataset}"
    if not is_done(folder):
        options = {"steps": STEPS[dataset], "checkpoint_freq": 100, "n_workers": 0, "test_envs": [LEFT_OUT]}
        where = {"data_dir": str(work / "data"), "dataset": dataset, "output_dir": str(folder)}
        train(TrainConfig(**where, algorithm="ERM", hparams=json.dumps(HPARAMS), **options))
    return load_run(folder, torch.device("cpu"))


def show(run: SavedRun, data_dir: str, other: str, videos: Path | None, pictures: Path | None) -> None:
    """Three rows of shares, one for each way to describe an image."""
    own = [entry for entry in own_sets(run, data_dir).sets if entry.env != LEFT_OUT]
    tests = dataset_sets(run, run.config.dataset, data_dir, "test").sets
    others = dataset_sets(run, other, data_dir, "test").sets
    groups = {
        "training": inputs(run, [entry for entry in own if entry.part == "in"]),
        "validation": inputs(run, [entry for entry in own if entry.part == "out"]),
        "own test people": inputs(run, [entry for entry in tests if entry.env != LEFT_OUT]),
        "NT, not trained on": inputs(run, [entry for entry in tests if entry.env == LEFT_OUT], label=1),
        f"{other}, reals": inputs(run, others[:1], label=0),
        f"{other}, fakes": inputs(run, others, label=1),
    }
    if videos is not None:
        cutter = FaceCutter(replace(crops_of_training(run)[0], n_frames=8), detect=True, kinds=["video"])
        crops = [
            crop for path in files_below(videos, VIDEO_SUFFIXES) for crop in cutter.cut(path, "video")[1]
        ]
        groups["faces in videos"] = list(map(to_tensor(run), crops))
    if pictures is not None:
        paths = [
            path
            for path in files_below(pictures, MEDIA_SUFFIXES)
            if not path.lower().endswith(VIDEO_SUFFIXES)
        ]
        whole = to_tensor(run)
        groups["other pictures"] = [whole(read_image(path)) for path in paths]
    shown = [name for name in groups if name not in ("training", "validation")]
    print(
        f"\n{run.describe()}\nunlike, in % of the images, where {SHARES[0]} % / {SHARES[1]} % of validation are\n"
    )
    print(" " * 28 + "  ".join(f"{name:>18s}" for name in shown))
    print(f"{'images':28s}" + "  ".join(f"{len(groups[name]):18,d}" for name in shown))
    descriptions = described_images(run, groups)
    convolutions = {name: values[:, FIELDS**2 :] for name, values in descriptions.items()}
    for name, distances in (
        ("layout, convolutions (kept)", anew(descriptions)),
        ("first convolutions", anew(convolutions)),
        ("classifier's features", anew(classifier_features(run, groups))),
    ):
        limits = [np.quantile(distances["validation"], 1 - share / 100, method="higher") for share in SHARES]
        cells = [
            " / ".join(f"{100 * (distances[group] > limit).mean():.1f}" for limit in limits)
            for group in shown
        ]
        print(f"{name:28s}" + "  ".join(f"{cell:>18s}" for cell in cells))


def inputs(run: SavedRun, sets: Sequence[EvaluationSet], label: int | None = None) -> list[torch.Tensor]:
    """Network inputs of at most ``MOST`` samples of each set, evenly spaced; of one class if ``label`` says so."""
    found = []
    for entry in sets:
        reader = open_images(run, "images", [entry.environment], 0)
        labels = entry.environment.labels_of(entry.indices)
        chosen = [i for i, y in zip(entry.indices, labels, strict=True) if label in (None, y)]
        step = -(-len(chosen) // MOST)
        found += [x for _, batch, _ in reader.evaluation([(0, chosen[::step])]) for x in batch]
    return found


def described_images(run: SavedRun, groups: Mapping[str, list[torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The descriptions that the model's file is made from."""
    found = {}
    for name, images in groups.items():
        with described(run.algorithm, run.familiarity.layers) as (_, values), torch.inference_mode():
            for batch in batches(images):
                run.algorithm.predict(batch)
        found[name] = torch.cat(values)
    return found


def classifier_features(run: SavedRun, groups: Mapping[str, list[torch.Tensor]]) -> dict[str, torch.Tensor]:
    """What the classifier sees."""
    with features(run) as of:
        return {
            name: torch.cat([of(batch)[0] for batch in batches(images)]) for name, images in groups.items()
        }


def anew(values: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Distances from a Gaussian of the training images."""
    mean, whitening = gaussian(values["training"])
    return {name: ((x - mean) @ whitening.T).norm(dim=1).numpy() for name, x in values.items()}


def batches(images: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    for start in range(0, len(images), BATCH):
        yield torch.stack(list(images[start : start + BATCH]))


if __name__ == "__main__":
    main()
