"""Sound input for every subcommand, made once: data, a run, a sweep, images, videos, sources to prepare."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from commands import Server
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets_ext"))  # prepare_videos

TRAIN = (
    "--dataset SynthFake --algorithm ERM --steps 2 --n_workers 0 --checkpoint_freq 1 --test_envs 3".split()
)
HPARAMS = '{"backbone": "meso4", "batch_size": 2}'
CROPS = "--detector squares --size 32 --n_frames 2 --n_workers 1".split()


@dataclass(frozen=True)
class World:
    """Where the sound input is. Cases copy what they damage.

    Attributes:
        root: the folder of everything.
        clean: output of commands on sound input, by the name of the command.
    """

    root: Path
    clean: dict[str, str]

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def train(self, *more: str) -> list[str]:
        """A training of a second into ``run`` of the case's folder."""
        return [
            "train",
            "--data_dir",
            str(self / "data"),
            *TRAIN,
            "--hparams",
            HPARAMS,
            "--output_dir",
            "run",
            *more,
        ]

    def copy(self, name: str, here: Path, *parts: str) -> Path:
        """Copy the folder ``name``, or only ``parts`` of it, into ``here``."""
        if not parts:
            return Path(shutil.copytree(self / name, here / name, symlinks=True))
        for part in parts:
            (here / name / part).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (self / name / part).is_dir() else shutil.copy
            copy(self / name / part, here / name / part)
        return here / name


def make_world(root: Path, server: Server) -> World:
    from datasets_ext.synthfake.generate import generate

    world = World(root, {})
    generate(root / "data", n_identities=6, n_frames=1, size=32)
    _images(root)
    _prepare_sources(root / "sources")
    (root / "preset.yaml").write_text(
        yaml.safe_dump(
            {
                "datasets": ["SynthFake"],
                "algorithms": ["ERM"],
                "rows": [{"name": "wide", "algorithm": "RoGA", "hparams": {"rho": 0.2}}],
                "data_dir": str(root / "data"),
                "n_hparams": 1,
                "n_trials": 1,
                "steps": 1,
                "test_envs": [3],
                "skip_model_save": True,
                "hparams": {"backbone": "meso4", "batch_size": 2},
            }
        )
    )
    _must(server, world.train(), root)
    sweep = ["sweep", "launch", "--preset", "preset.yaml", "--output_dir", "sweep", "--skip_confirmation"]
    _must(server, sweep, root, timeout=200)
    _must(server, ["sweep", "pack", "--output_dir", "sweep", "--to", "packed"], root)
    csv_list = [
        "prepare",
        "csv",
        "--list",
        "own/list.csv",
        "--name",
        "Own",
        "--data_dir",
        "data",
        "--link",
        "copy",
    ]
    _must(server, csv_list, root)
    for name, argv in {
        "evaluate": ["evaluate", str(root / "run"), "--folder", str(root / "own" / "images")],
        "predict": ["predict", str(root / "run"), str(root / "own" / "images"), "--no_detect"],
    }.items():
        world.clean[name] = _must(server, argv, root)
    return world


def _must(server: Server, argv: list[str], cwd: Path, **extra) -> str:
    answer = server.run(argv, cwd, **extra)
    assert answer["status"] == 0, (argv, answer)
    return answer["stdout"]


def _images(root: Path) -> None:
    noise = np.random.default_rng(0)
    rows = ["path,env,label,video,recording,identities,split"]
    for name in ("real", "fake"):
        (root / "own" / "images" / name).mkdir(parents=True)
        for index in range(4):
            pixels = noise.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "own" / "images" / name / f"{index}.png")
            split = "train" if index < 2 else "val" if index == 2 else "test"
            row = [f"images/{name}/{index}.png", "A", name, f"{name}{index}", f"r{index}", f"p{index}", split]
            rows.append(",".join(row))
    (root / "own" / "list.csv").write_text("\n".join(rows) + "\n")


def _prepare_sources(sources: Path) -> None:
    """Sources as distributed, in miniature."""
    from prepare_videos import small_tree, write_video

    small_tree(sources / "ffpp")
    pairs = {
        "train": [["000", "003"]],
        "val": [["001", "002"]],
        "test": [["004", "005"]],
    }  # most are not there
    (sources / "ffpp" / "splits").mkdir()
    for part, value in pairs.items():
        (sources / "ffpp" / "splits" / f"{part}.json").write_text(json.dumps(value))
    part = sources / "dfdc" / "dfdc_train_part_0"
    labels = {
        "aaaa.mp4": {"label": "REAL", "split": "train", "original": None},
        "bbbb.mp4": {"label": "FAKE", "split": "train", "original": "aaaa.mp4"},
    }
    for name in labels:
        write_video(part / name, 4)
    (part / "metadata.json").write_text(json.dumps(labels))
    celeb = sources / "celebdf2"
    write_video(celeb / "Celeb-real" / "id0_0000.mp4", 4)
    write_video(celeb / "Celeb-synthesis" / "id0_id1_0000.mp4", 4)
    write_video(celeb / "YouTube-real" / "00000.mp4", 4)
    (celeb / "List_of_testing_videos.txt").write_text("1 YouTube-real/00000.mp4\n")
    write_video(sources / "clip.mp4", 6)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every regular file below ``folder`` with its content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found
