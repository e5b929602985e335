"""FaceForensics++ as distributed → ``FFPP``, ``FFPP_c40`` or ``FFPP_raw``: crops, manifest and report.

Every environment has its own fakes and all reals, as the four manipulations share their originals. The reals are
cropped once; the other environments get hard links, or copies where the file system has no links.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from datasets_ext import manifest
from datasets_ext.prepare import ffpp_layout as layout
from datasets_ext.prepare import ffpp_splits, journal, pool, report
from datasets_ext.prepare.clips import Clip, CropOptions, Outcome, frame_name
from datasets_ext.prepare.detectors import DETECTORS
from roga_domainbed.errors import Problems, RogaError, unknown_name

_REAL_FOLDER, _FAKE_FOLDER = manifest.CLASS_FOLDERS


def prepare(
    source: str | os.PathLike,
    data_dir: str | os.PathLike,
    compression: str = "c23",
    options: CropOptions | None = None,
    splits: str | os.PathLike | None = None,
    n_workers: int = 1,
    overwrite: bool = False,
) -> report.Report:
    """Make ``<data_dir>/<FFPP…>/<env>/{0_real,1_fake}/<video>/<frame>.png``, its manifest and its report.

    A run that was interrupted continues: videos that are finished are not touched, videos that gave nothing are
    tried again. Each video's folder appears whole; the manifest is taken away at the start and written last, so
    what can be read as a dataset is one.

    Args:
        source: the folder with ``original_sequences`` and ``manipulated_sequences``.
        data_dir: the folder to make the dataset's folder in.
        compression: c23, c40 or raw.
        options: what decides the pixels; ``CropOptions()`` if None.
        splits: the folder of train.json, val.json and test.json; searched for below ``source`` if None.
        n_workers: processes; 1 works in this one.
        overwrite: take away what an earlier run made and begin anew.

    Raises:
        RogaError: for wrong arguments, all at once and before anything is written; if no video gives a crop;
            if a crop cannot be written.
    """
    source, data_dir = Path(source), Path(data_dir)
    options = options or CropOptions()
    problems = Problems()
    for problem in options.problems():
        problems.add(problem)
    if options.detector not in DETECTORS:
        problems.add(unknown_name("detector", options.detector, DETECTORS.names()))
    if n_workers < 1:
        problems.add(f"--n_workers must be at least 1; got {n_workers}")
    if data_dir.exists() and not data_dir.is_dir():
        problems.add(f"--data_dir {str(data_dir)!r} is a file; it must be a folder, or a name for a new one")
    if compression not in layout.DATASET_NAMES:
        problems.add(unknown_name("compression", compression, layout.DATASET_NAMES))
        problems.check()
    tree = layout.find(source, compression, problems)
    lists = ffpp_splits.find(source, None if splits is None else Path(splits), problems)
    problems.check()
    pool.require_detector(options.detector)

    name = layout.DATASET_NAMES[compression]
    root, staging = data_dir / name, data_dir / f".{name}.partial"
    try:
        _check_own(root)
        if overwrite:
            _remove_made(root)
        book = journal.Journal.open(root, options)
        result = report.Report(name, root, source, compression, options)
        _make(tree, book, root, staging, n_workers, result)
        _finish(tree, lists, result)
    except OSError as error:
        raise RogaError(
            f"{error.strerror or error}: {error.filename or data_dir}; finished videos are kept and there is no "
            "manifest yet: put it right and run the same command again"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # what a kill leaves there, the next run removes
    if not result.n_prepared:
        raise RogaError(f"nothing was prepared; {root / report.FILE} has the reasons. {result.summary()}")
    return result


def _check_own(root: Path) -> None:
    if root.is_dir() and any(root.iterdir()) and not (root / journal.FILE).is_file():
        raise RogaError(
            f"{root} is there already and was not made by 'prepare' (it has no {journal.FILE}): "
            "move it away or choose another --data_dir"
        )


def _remove_made(root: Path) -> None:
    # The manifest goes first and the journal last: at no moment does a dataset that is being removed look whole.
    (root / manifest.FILE).unlink(missing_ok=True)
    (root / report.FILE).unlink(missing_ok=True)
    for env in layout.METHODS:
        if (root / env).is_dir():
            shutil.rmtree(root / env)
    (root / journal.FILE).unlink(missing_ok=True)


def _make(
    tree: layout.Tree,
    book: journal.Journal,
    root: Path,
    staging: Path,
    n_workers: int,
    result: report.Report,
) -> None:
    envs = _environments(tree, book.outcomes.values())
    clips = _clips(tree, envs)
    todo = [clip for clip in clips if not _is_finished(root, clip, book.outcomes.get(clip.key))]
    result.n_resumed = len(clips) - len(todo)
    root.mkdir(parents=True, exist_ok=True)
    (root / manifest.FILE).unlink(missing_ok=True)
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir()
    for clip in todo:
        _set_aside(root, clip, staging)
    with (
        book,
        tqdm(
            total=len(clips),
            initial=result.n_resumed,
            desc=root.name,
            unit="video",
            mininterval=0.5 if sys.stderr.isatty() else 30,  # a log file needs no more
        ) as progress,
    ):
        for outcome in pool.crop_all(todo, book.options, root, staging, n_workers):
            book.add(outcome)
            progress.update()
    present = {clip.key for clip in clips}
    earlier = [
        outcome for key, outcome in book.outcomes.items() if key not in present and _is_whole(root, outcome)
    ]
    if earlier:
        result.notes.append(f"{len(earlier)} videos prepared earlier are not in this source; they are kept")
    result.outcomes = sorted(
        [book.outcomes[clip.key] for clip in clips] + earlier,
        key=lambda outcome: (layout.CLASSES.index(_class_of(outcome)), outcome.key),
    )
    reals = [outcome for outcome in result.outcomes if outcome.written and _class_of(outcome) == layout.REAL]
    n_copied = sum(not _share(root, outcome, env, staging) for outcome in reals for env in envs)
    if n_copied:
        result.notes.append("the file system has no hard links: each environment has a copy of the reals")


def _finish(tree: layout.Tree, lists: ffpp_splits.Splits, result: report.Report) -> None:
    envs = _environments(tree, result.outcomes)
    result.splits = {name: len(pairs) for name, pairs in lists.pairs.items()}
    found = {name: len(videos) for name, videos in tree.videos.items()}
    result.classes = report.count_classes(layout.CLASSES, layout.N_EXPECTED, found, result.outcomes)
    result.missing = _missing(tree, lists, result.outcomes)
    result.notes += tree.notes + lists.notes
    made = {count.name for count in result.classes if count.prepared}
    for env, method in layout.METHODS.items():
        if method not in made:
            result.notes.append(f"environment {env} has no fakes: there is no usable {method} video")
    if layout.REAL not in made:
        result.notes.append(
            "no environment has reals: there is no usable video of original_sequences/youtube"
        )
    rows = _rows(result, envs, lists)
    if lists.folder is None:
        result.notes.append(
            "no split lists (train.json, val.json, test.json) were found: the column 'split' is empty; run again "
            "with --splits DIR, nothing is cropped again"
        )
    elif len(rows):
        unlisted = rows.loc[rows["split"] == "", ["method", "video"]].drop_duplicates()
        if len(unlisted):
            result.notes.append(f"{len(unlisted)} videos are in no split list; their 'split' is empty")
    result.write()
    if len(rows):
        manifest.write(result.folder, rows)


def _environments(tree: layout.Tree, outcomes: Iterable[Outcome]) -> list[str]:
    """The environments with fakes, in the source or prepared earlier; the first one if there are reals alone."""
    made = {_class_of(outcome) for outcome in outcomes if outcome.written}
    envs = [env for env, method in layout.METHODS.items() if tree.videos[method] or method in made]
    return envs or list(layout.METHODS)[:1]


def _clips(tree: layout.Tree, envs: list[str]) -> list[Clip]:
    folders = {method: f"{env}/{_FAKE_FOLDER}" for env, method in layout.METHODS.items()}
    folders[layout.REAL] = f"{envs[0]}/{_REAL_FOLDER}"
    return [
        Clip(f"{name}/{stem}", path, f"{folders[name]}/{stem}")
        for name, videos in tree.videos.items()
        for stem, path in videos.items()
    ]


def _is_finished(root: Path, clip: Clip, outcome: Outcome | None) -> bool:
    if outcome is None or not _is_whole(root, outcome):
        return False
    try:
        return clip.source.stat().st_size == outcome.source_bytes
    except FileNotFoundError:  # a link whose target went away after it had been prepared
        return True


def _is_whole(root: Path, outcome: Outcome) -> bool:
    return bool(outcome.written) and _has_exactly(root / outcome.folder, outcome)


def _has_exactly(folder: Path, outcome: Outcome) -> bool:
    return folder.is_dir() and set(os.listdir(folder)) == {frame_name(index) for index in outcome.written}


def _set_aside(root: Path, clip: Clip, staging: Path) -> None:
    """Take away the folders of a clip that is made again, from every environment that has a link of it."""
    real = clip.key.startswith(f"{layout.REAL}/")
    video = clip.key.split("/")[1]
    folders = [f"{env}/{_REAL_FOLDER}/{video}" for env in layout.METHODS] if real else [clip.folder]
    for folder in folders:
        _discard(root / folder, staging)


def _discard(folder: Path, staging: Path) -> None:
    # Renamed before it is removed: a kill in between must not leave a folder with some of its frames.
    if folder.is_dir():
        aside = staging / "discarded"
        os.rename(folder, aside)
        shutil.rmtree(aside)


def _share(root: Path, outcome: Outcome, env: str, staging: Path) -> bool:
    """Give ``env`` the real video of ``outcome``; False if it had to be copied."""
    made = root / outcome.folder
    target = root / env / _REAL_FOLDER / made.name
    if target == made or _has_exactly(target, outcome):
        return True
    _discard(target, staging)
    part = staging / f"{env}-{made.name}"
    part.mkdir()
    linked = True
    for index in outcome.written:
        linked = _link_or_copy(made / frame_name(index), part / frame_name(index)) and linked
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(part, target)
    return linked


def _link_or_copy(path: Path, target: Path) -> bool:
    try:
        os.link(path, target)
    except (
        OSError
    ):  # the kinds differ by system; a full disk fails in the copy as well, and is reported there
        shutil.copyfile(path, target)
        return False
    return True


def _missing(tree: layout.Tree, lists: ffpp_splits.Splits, outcomes: list[Outcome]) -> dict[str, list[str]]:
    """Class → stems that should be there: reals by number, fakes by the lists or else by the other methods."""
    methods = list(layout.METHODS.values())
    fakes = lists.fakes() or sorted({stem for method in methods for stem in tree.videos[method]})
    wanted = {layout.REAL: [f"{number:03d}" for number in range(layout.N_EXPECTED)]}
    wanted |= dict.fromkeys(methods, fakes)
    prepared = {outcome.key for outcome in outcomes if outcome.written}
    missing = {
        name: [stem for stem in stems if stem not in tree.videos[name] and f"{name}/{stem}" not in prepared]
        for name, stems in wanted.items()
    }
    return {name: stems for name, stems in missing.items() if stems}


def _rows(result: report.Report, envs: list[str], lists: ffpp_splits.Splits) -> pd.DataFrame:
    env_of = {method: env for env, method in layout.METHODS.items()}
    rows = []
    for outcome in result.outcomes:
        name, video = outcome.key.split("/")
        real = name == layout.REAL
        for env in envs if real else [env_of[name]]:
            folder = f"{env}/{_REAL_FOLDER if real else _FAKE_FOLDER}/{video}"
            rows += [
                {
                    "path": f"{folder}/{frame_name(index)}",
                    "dataset": result.dataset,
                    "env": env,
                    "method": name,
                    "compression": result.compression,
                    "label": manifest.REAL if real else manifest.FAKE,
                    "video": video,
                    "recording": layout.recording(video),
                    "identities": layout.identities(video),
                    "split": lists.of(video),
                    "frame": index,
                }
                for index in outcome.written
            ]
    return pd.DataFrame(rows, columns=list(manifest.COLUMNS))


def _class_of(outcome: Outcome) -> str:
    return outcome.key.split("/")[0]
