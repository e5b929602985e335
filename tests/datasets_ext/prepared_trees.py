"""Prepared trees in miniature, one frame a video, for the data sets that are combined from several."""

from pathlib import Path

import pandas as pd
from PIL import Image

from datasets_ext import manifest
from datasets_ext.prepare import ffpp_layout


def write_tree(root, name, videos):
    """A tree with one frame of each (env, label, video, recording, identities, split, method)."""
    rows = []
    for env, label, video, recording, people, split, method in videos:
        path = f"{env}/{manifest.CLASS_FOLDERS[label]}/{video}/0000.png"
        (root / name / path).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8), (250 * label,) * 3).save(root / name / path)
        rows.append([path, name, env, method, "", label, video, recording, people, split, 0])
    manifest.write(root / name, pd.DataFrame(rows, columns=list(manifest.COLUMNS)))


def ffpp_videos(part=ffpp_layout.FFPP):
    """Pairs 000/001 in train, 002/003 in val, 004/005 in test; every manipulation has the reals."""
    for env, method in part.methods.items():
        for first, split in ((0, "train"), (2, "val"), (4, "test")):
            a, b = f"{first:03d}", f"{first + 1:03d}"
            for real in (a, b):
                yield env, 0, real, real, real, split, "real"
            for target, source in ((a, b), (b, a)):
                yield env, 1, f"{target}_{source}", target, f"{a}+{b}", split, method


def other_videos(name, n, split, people=True):
    """n recordings, each with a real and a fake; the last two are test where there is a split."""
    for i in range(n):
        part = {True: "test" if i >= n - 2 else "train", False: ""}[split]
        person = f"id{i}" if people else ""
        yield name, 0, f"{i:03d}", f"{i:03d}", person, part, "real"
        yield name, 1, f"{i:03d}_fake", f"{i:03d}", person, part, "swap"


def write_all_trees(root: Path) -> Path:
    """Every tree that the combined data sets are made of."""
    write_tree(root, "FFPP", ffpp_videos())
    write_tree(root, "FaceShifter", ffpp_videos(ffpp_layout.FACESHIFTER))
    for name in ("CelebDF1", "CelebDF2", "DFDCP"):
        write_tree(root, name, other_videos(name, 8, split=True))
    write_tree(root, "DFDC", other_videos("DFDC", 8, split=True, people=False))
    write_tree(root, "DFD", other_videos("DFD", 6, split=False))
    write_tree(root, "UADFV", other_videos("UADFV", 6, split=False))
    return root
