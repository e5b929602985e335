"""How much of a heat map lies where a forgery is.

    python benchmarks/map_in_blend.py FOLDER [--networks meso4 tf_efficientnet_lite0 …] [--steps 400] [--seed 0]

FOLDER has ``data/SelfBlend`` as ``prepare selfblend --size 128 --n_frames 2`` makes it, without compression, and
``lite0.pth`` for the network that starts from ImageNet; docs/selfblend.md has both. Without compression a fake differs
from its real where it was blended and nowhere else, so the blended region is where the two files differ by more than
two levels of 255.

ERM is trained with NT held out, once for each network, into ``FOLDER/map-in-blend``; what is there is not trained
again. For each fake of the test people: the share of its map's mass inside the region, over the region's share of the
image, which is what a map without a preference gets in the mean. Forgeries are in the middle of an image, where maps
lie anyway. So the same region is put over two more maps: that of the real that the fake was made from, and that of the
same network with random weights. ± is the bootstrap's standard error over people, who are the independent units. A
map is blank where nothing in the image speaks for fake; it has no share and is counted for each of the three.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from datasets_ext import manifest
from roga_domainbed.engine.lib.misc import evaluation_mode
from roga_domainbed.inference.explain.feature_map import last_feature_map
from roga_domainbed.inference.explain.heat_maps import heat_maps
from roga_domainbed.inference.explain.methods import METHODS
from roga_domainbed.inference.model_inputs import to_tensor
from roga_domainbed.inference.saved_run import SavedRun, load_run
from roga_domainbed.input.image_files import read_image
from roga_domainbed.results.text_table import text_table
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train

HELD_OUT = 3  # NT
LEAST_DIFFERENCE = 2  # levels: rounding to files leaves one
BATCH_SIZE = 35
#: Network → steps, its hyper-parameters. 3 × 16 images a step.
NETWORKS = {
    "meso4": (400, {"image_size": 64, "lr": 2e-3, "lr_schedule": "cosine"}),
    "tf_efficientnet_lite0": (61, {"image_size": 128, "lr": 1e-3, "lr_schedule": "cosine"}),
    "resnet18": (200, {"image_size": 128, "lr": 1e-3, "lr_schedule": "cosine", "pretrained": False}),
}


def trained(folder: Path, network: str, steps: int | None, seed: int) -> SavedRun:
    """ERM with ``network``, trained now or by an earlier call."""
    planned, hparams = NETWORKS[network]
    steps = steps or planned
    output = folder / "map-in-blend" / f"{network}-{steps}-{seed}"
    if not (output / "done").exists():
        hparams = {**hparams, "backbone": network, "batch_size": 16}
        if network == "tf_efficientnet_lite0":
            hparams["weights"] = str(folder / "lite0.pth")
        train(
            TrainConfig(
                data_dir=str(folder / "data"),
                dataset="SelfBlend",
                hparams=json.dumps(hparams),
                seed=seed,
                test_envs=[HELD_OUT],
                steps=steps,
                eval_every=steps,
                checkpoint_every=0,
                output_dir=str(output),
                n_workers=0,
            )
        )
    return load_run(output)


def pairs(tree: Path) -> pd.DataFrame:
    """A row a fake frame of the test people: env, recording, person, its file and that of its real."""
    rows = manifest.read(tree)
    if set(rows["compression"]) != {""}:
        raise SystemExit(f"{tree} is compressed: its fakes differ from their reals everywhere")
    rows = rows[rows["split"] == "test"]
    key = ["env", "recording", "frame"]
    found = rows[rows["label"] == 1].merge(rows[rows["label"] == 0], on=key, suffixes=("", "_real"))
    found["person"] = found["identities_real"]
    return found[[*key, "person", "path", "path_real"]]


def blended_region(fake: Image.Image, real: Image.Image, side: int) -> np.ndarray:
    """(side, side) of 0 to 1: how much of each pixel was blended."""
    difference = np.abs(np.asarray(fake, np.int16) - np.asarray(real, np.int16)).max(2)
    mask = Image.fromarray(np.uint8(255 * (difference > LEAST_DIFFERENCE)))
    return np.asarray(mask.resize((side, side), Image.Resampling.BOX), np.float64) / 255


def maps_of(run: SavedRun, files: list[Path], method: str) -> tuple[np.ndarray, np.ndarray]:
    """(N, S, S) heat maps and (N,) probabilities of fake."""
    read = to_tensor(run)
    maps, fake = [], []
    with heat_maps(run, last_feature_map(run), method) as explain:
        for start in range(0, len(files), BATCH_SIZE):
            images = [read(read_image(file)) for file in files[start : start + BATCH_SIZE]]
            batch, probabilities = explain(torch.stack(images).to(run.device))
            maps.append(batch)
            fake.append(probabilities)
    return np.concatenate(maps), np.concatenate(fake)


def share_inside(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """(N,) share of each map's mass in its region; NaN for a map without any."""
    mass = maps.sum((1, 2), dtype=np.float64)
    inside = (maps * regions).sum((1, 2), dtype=np.float64)
    return np.divide(inside, mass, out=np.full(len(maps), np.nan), where=mass > 0)


def randomized(run: SavedRun, seed: int) -> None:
    """New random weights, and running statistics of none."""
    torch.manual_seed(seed)
    for module in run.algorithm.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def mean_and_error(values: pd.Series, people: pd.Series, seed: int) -> str:
    """The mean over images, and its standard error by a bootstrap over people."""
    known = values.notna()
    groups = [group.to_numpy() for _, group in values[known].groupby(people[known])]
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(groups), size=(2000, len(groups)))
    means = [np.concatenate([groups[place] for place in row]).mean() for row in drawn]
    return f"{values[known].mean():.2f} ± {np.std(means):.2f}"


def measured(run: SavedRun, tree: Path, rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a fake frame and method, with the shares of the three maps over the region's share of the image."""
    side = run.input_shape[-1]
    fakes, reals = ([tree / path for path in rows[column]] for column in ("path", "path_real"))
    files = zip(fakes, reals, strict=True)
    regions = np.stack([blended_region(read_image(fake), read_image(real), side) for fake, real in files])
    area = regions.mean((1, 2))
    tables = []
    untrained = load_run(run.path)
    randomized(untrained, seed)
    for method in tqdm(METHODS, unit="method", disable=None, leave=False):
        of_fakes, probability = maps_of(run, fakes, method)
        table = rows.assign(method=method, area=area, p=probability)
        table["fake"] = share_inside(of_fakes, regions) / area
        table["real"] = share_inside(maps_of(run, reals, method)[0], regions) / area
        table["untrained"] = share_inside(maps_of(untrained, fakes, method)[0], regions) / area
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def shown(run: SavedRun, network: str, table: pd.DataFrame, seed: int) -> str:
    """The rows of ``measured`` as a table, a line a method and environment."""
    where = last_feature_map(run)
    lines = [
        ["method", "environment", "region", "map / area", "of the real", "untrained", "n", "blank", "p(fake)"]
    ]
    groups: Mapping[str, pd.DataFrame] = dict(list(table.groupby("env", sort=True)))
    for method, info in METHODS.items():
        for env, rows in [*groups.items(), ("all", table)]:
            rows = rows[rows["method"] == method]
            errors = [
                mean_and_error(rows[name], rows["person"], seed) for name in ("fake", "real", "untrained")
            ]
            blank = "/".join(str(rows[name].isna().sum()) for name in ("fake", "real", "untrained"))
            area, p = f"{rows['area'].mean():.1%}", f"{rows['p'].mean():.2f}"
            lines.append([info.title, env, area, *errors, str(len(rows)), blank, p])
    return f"{network}, maps of {where.height} × {where.width}, {run.input_shape[-1]} pixels\n" + text_table(
        lines, 2
    )


def auc_of(run: SavedRun, tree: Path, rows: pd.DataFrame) -> str:
    """The AUC on the test people of each environment, in words."""
    from sklearn.metrics import roc_auc_score

    read, said = to_tensor(run), []
    for env, part in rows.groupby("env"):
        files = [tree / path for column in ("path_real", "path") for path in part[column]]
        scores = []
        with torch.inference_mode(), evaluation_mode(run.algorithm):
            for start in range(0, len(files), BATCH_SIZE):
                x = torch.stack([read(read_image(file)) for file in files[start : start + BATCH_SIZE]])
                logits = run.algorithm.predict(x.to(run.device))
                scores += (logits[:, 1] - logits[:, 0]).tolist()
        said.append(f"{env} {roc_auc_score([0] * len(part) + [1] * len(part), scores):.3f}")
    return f"AUC of {len(rows)} pairs of frames: {', '.join(said)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=["meso4", "tf_efficientnet_lite0"], choices=NETWORKS)
    parser.add_argument("--steps", type=int, help="of training, in place of the network's own")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tree = args.folder / "data" / "SelfBlend"
    rows = pairs(tree)
    people = rows["person"].nunique()
    print(
        f"{len(rows)} fake frames of {rows['recording'].nunique()} photographs of {people} people; NT was held out"
    )
    for network in args.networks:
        run = trained(args.folder, network, args.steps, args.seed)
        table = measured(run, tree, rows, args.seed)
        print(f"\n{shown(run, network, table, args.seed)}{auc_of(run, tree, rows)}")


if __name__ == "__main__":
    main()
