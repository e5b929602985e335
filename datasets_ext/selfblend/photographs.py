"""A folder of face photographs → ``SelfBlend``: DF, F2F, FS and NT, four manipulations of real images.

    <faces>/**/<name>.{jpg,jpeg,png,webp,bmp,tif,tiff,pgm,ppm}      one face in each

Every photograph becomes one real video, shared by the four environments, and one fake in each. --identity tells who is
in it: 'stem' (every file is another person), 'folder' (its folder), or a regular expression that is searched in the
file's name without suffix (its first group, or the whole match, names the person).
People are assigned in pairs to train (about 2/3), val (2/15) and test (1/5). In FS the two people of a pair swap faces,
as in FaceForensics++. Licence: that of the photographs.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

from datasets_ext import manifest
from datasets_ext.prepare.identities import identity_rule
from datasets_ext.prepare.layout import Layout, Video, joined
from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import Problems
from roga_domainbed.input.tree import IMAGE_SUFFIXES, files_below
from roga_domainbed.seeds import derive

DATASET_NAME = "SelfBlend"
REAL = "real"
SWAP = "FS"

_MIN_PEOPLE = 6  # two, for a swap, in each of train, val and test
_MAX_BYTES = 120  # file systems allow 255 in a name, and that of a swap is made of two
_SHOT = re.compile(r"[ ._-]*(?:\d+|[a-zA-Z]{1,2})$")  # ends the names of several shots of one person


def read(faces: str | os.PathLike, identity: str, compression: str, seed: int, problems: Problems) -> Layout:
    """The photographs below ``faces`` as videos to be made.

    Args:
        faces: the folder, searched recursively.
        identity: ``stem``, ``folder`` or a regular expression.
        compression: a key of ``options.RATE_FACTORS``.
        seed: decides parts and pairs.
        problems: collects what is wrong with these.
    """
    faces = Path(faces)
    envs = DATASETS.get(DATASET_NAME).environments
    layout = Layout(
        DATASET_NAME,
        faces,
        envs,
        dict.fromkeys((REAL, *envs)),
        "" if compression == "none" else compression,
        complete=True,
    )
    photographs = _named(faces, layout, problems)
    person_of = _people(photographs, identity, faces, layout, problems)
    if problems.messages:
        return layout
    photographs_of: dict[str, list[str]] = defaultdict(list)
    for name, person in person_of.items():
        photographs_of[person].append(name)
    if len(photographs_of) < _MIN_PEOPLE:
        problems.add(
            f"--faces {str(faces)!r} shows {len(photographs_of)} people in {len(person_of)} photographs by "
            f"--identity {identity}; at least {_MIN_PEOPLE} are needed, two in each of train, val and test"
        )
        return layout
    split_of, partner_of = _parts(sorted(photographs_of), seed)
    for name, person in person_of.items():
        common = {"source": photographs[name], "recording": name, "split": split_of[person]}
        layout.add(
            Video(REAL, name, envs=envs, method=REAL, label=manifest.REAL, identities=person, **common)
        )
        for env in envs:
            fake = {"envs": (env,), "method": env, "label": manifest.FAKE, **common}
            if env == SWAP:
                partner = partner_of[person]
                donor = _donor(name, photographs_of[partner], seed)
                people = joined((person, partner))
                fake_name = f"{name}_{donor}"  # as FaceForensics++ names what it swaps
                layout.add(Video(env, fake_name, identities=people, donor=photographs[donor], **fake))
            else:
                layout.add(Video(env, name, identities=person, **fake))
    counts = {part: sum(split == part for split in split_of.values()) for part in manifest.SPLITS}
    layout.notes.append(
        f"{len(person_of)} photographs of {len(split_of)} people by --identity {identity}; people in "
        + ", ".join(f"{part} {number}" for part, number in counts.items())
    )
    return layout


def _named(faces: Path, layout: Layout, problems: Problems) -> dict[str, Path]:
    """Unique name of a photograph, without slashes → its file; sorted by name."""
    if not faces.is_dir():
        problems.add(f"--faces {str(faces)!r} is not a folder")
        return {}
    try:
        paths = sorted(map(Path, files_below(faces, IMAGE_SUFFIXES)))
    except OSError as error:
        problems.add(f"--faces: cannot list the folder {error.filename!r}: {error.strerror}")
        return {}
    found: dict[str, Path] = {}
    same, unusable = [], []
    for path in paths:
        name = "-".join(path.relative_to(faces).with_suffix("").parts)
        if not name.isprintable() or len(os.fsencode(name)) > _MAX_BYTES:
            unusable.append(path)
        elif name in found:
            same.append(path)
        else:
            found[name] = path
    layout.note_files(same, "photographs have the same name as another, left out")
    layout.note_files(unusable, f"photographs have a name over {_MAX_BYTES} bytes or not printable, left out")
    if not found:
        problems.add(
            f"--faces {str(faces)!r} has no photograph: no file ends in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return found


def _people(
    photographs: dict[str, Path], identity: str, faces: Path, layout: Layout, problems: Problems
) -> dict[str, str]:
    """Name of a photograph → who is in it."""
    if identity == "stem":
        _warn_of_shots(photographs, layout)
    rule = identity_rule(identity, problems)
    if problems.messages:
        return {}
    people = {name: rule(path.relative_to(faces)) for name, path in photographs.items()}
    unknown = [name for name, person in people.items() if not person]
    where = "are in no folder below --faces" if identity == "folder" else "do not match --identity"
    layout.note_names(unknown, f"photographs {where}, left out")
    return {name: person for name, person in people.items() if person}


def _warn_of_shots(photographs: dict[str, Path], layout: Layout) -> None:
    """Note names that look like several photographs of one person, who might then be in two parts."""
    shots: dict[str, list[str]] = defaultdict(list)
    for name in photographs:
        shots[_SHOT.sub("", name)].append(name)
    shots.pop("", None)
    several = [names for names in shots.values() if len(names) > 1]
    if several and len(shots) > 1:
        layout.notes.append(
            f"{sum(map(len, several))} photographs have nearly the same name as another "
            f"({', '.join(several[0][:2])}): if they show one person, say so with --identity, or that person may be "
            "trained on and tested on"
        )


def _parts(people: list[str], seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Person → part, and person → whose face that person gets in a swap."""
    order = sorted(people, key=lambda person: derive(seed, "selfblend order", person))
    n_test = max(2, round(len(order) / 5))
    n_val = max(2, round(len(order) * 2 / 15))
    sizes = (len(order) - n_val - n_test, n_val, n_test)
    split_of, partner_of = {}, {}
    for part, size in zip(manifest.SPLITS, sizes, strict=True):
        members, order = order[:size], order[size:]
        split_of |= dict.fromkeys(members, part)
        n_paired = size - size % 2
        for first, second in zip(members[:n_paired:2], members[1:n_paired:2], strict=True):
            partner_of |= {first: second, second: first}
        if size % 2:  # the last three swap in a circle
            first, second, third = members[-3:]
            partner_of |= {first: second, second: third, third: first}
    return split_of, partner_of


def _donor(name: str, candidates: list[str], seed: int) -> str:
    return min(candidates, key=lambda candidate: derive(seed, "selfblend donor", name, candidate))
