"""Prepared trees in miniature, and the rows of FaceForensics++'s manifest."""

import functools
from pathlib import Path

import pandas as pd
from PIL import Image

from datasets_ext import manifest
from datasets_ext.prepare import ffpp_layout


def plain(label, video, frame):
    return Image.new("RGB", (8, 8), (250 * label,) * 3)


def write_tree(root, name, videos, picture=plain, n_frames=1):
    """A tree of each (env, label, video, recording, identities, split, method), as 'prepare' lays it out."""
    rows = []
    for env, label, video, recording, people, split, method in videos:
        for frame in range(n_frames):
            path = f"{env}/{manifest.CLASS_FOLDERS[label]}/{video}/{frame:04d}.png"
            (root / name / path).parent.mkdir(parents=True, exist_ok=True)
            picture(label, video, frame).save(root / name / path)
            rows.append([path, name, env, method, "", label, video, recording, people, split, frame])
    manifest.write(root / name, pd.DataFrame(rows, columns=list(manifest.COLUMNS)))


def pair_videos(method, a, b, split):
    """(label, video, recording, identities, split, method) of the reals ``a`` and ``b`` and of both fakes."""
    for real in (a, b):
        yield 0, real, real, real, split, "real"
    for target, source in ((a, b), (b, a)):
        yield 1, f"{target}_{source}", target, f"{a}+{b}", split, method


def ffpp_videos(part=ffpp_layout.FFPP):
    """Pairs 000/001 in train, 002/003 in val, 004/005 in test; every manipulation has the reals."""
    for env, method in part.methods.items():
        for first, split in ((0, "train"), (2, "val"), (4, "test")):
            for video in pair_videos(method, f"{first:03d}", f"{first + 1:03d}", split):
                yield env, *video


def ffpp_rows(pairs, n_frames=1):
    """The manifest's rows of every manipulation, for ``pairs`` (a, b, split)."""
    columns = ["label", "video", "recording", "identities", "split", "method"]
    environments = []
    for method in ffpp_layout.FFPP.methods.values():
        items = [video for pair in pairs for video in pair_videos(method, *pair)]
        rows = pd.DataFrame(items, columns=columns).assign(dataset="FFPP")
        environments.append(rows.loc[rows.index.repeat(n_frames)].reset_index(drop=True))
    return environments


@functools.cache
def official_sizes(n_frames=1):
    """The 500 pairs of FaceForensics++ by number, in the official sizes: 360 train, 70 val, 70 test."""
    parts = ["train"] * 360 + ["val"] * 70 + ["test"] * 70
    return ffpp_rows([(f"{2 * i:03d}", f"{2 * i + 1:03d}", part) for i, part in enumerate(parts)], n_frames)


def other_videos(name, n, split, people=True, tested=None):
    """n recordings, each with a real and a fake; where there is a split, ``tested`` or the last two are test."""
    tested = range(n - 2, n) if tested is None else tested
    for i in range(n):
        part = ("test" if i in tested else "train") if split else ""
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
