"""From a dataset's ``Layout`` to crops, manifest and report: the same for all datasets.

A video may belong to several environments, as the reals of FaceForensics++ do. It is cropped once; the other
environments get hard links, or copies if the file system has no links.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from datasets_ext import manifest
from datasets_ext.prepare import folder, journal, pool, report, report_page
from datasets_ext.prepare.layout import Layout, Video
from datasets_ext.prepare.options import CropOptions, Options
from datasets_ext.prepare.outcome import Outcome
from roga_domainbed.errors import Problems, RogaError

#: Reads a source; adds what is wrong with the arguments or with the source as a whole to the problems.
Reader = Callable[[Problems], Layout]


def prepare(
    read: Reader,
    data_dir: str | os.PathLike,
    options: Options | None = None,
    n_workers: int = 1,
    overwrite: bool = False,
) -> report.PrepareReport:
    """Make ``<data_dir>/<dataset>/<env>/{0_real,1_fake}/<video>/<frame>.png``, its manifest and its report.

    A killed run resumes: finished videos are left alone, dropped videos are tried again. Each video's folder appears
    whole. The manifest is removed at the start and written last, so an unfinished dataset cannot be opened. The source
    is only read.

    Args:
        read: the dataset's reader, with its arguments bound.
        data_dir: the folder to make the dataset's folder in.
        options: what decides the pixels; ``CropOptions()`` if None.
        n_workers: processes; 1 works in this one.
        overwrite: remove what an earlier run made, and nothing else, and start over.

    Another run in the same folder is waited for.

    Raises:
        RogaError: for wrong arguments, all at once and before anything is written; the folder is not ours, or has files
            of others where ours must go; no video gave a crop; a crop cannot be written.
    """
    data_dir = Path(data_dir)
    options = options or CropOptions()
    problems = Problems()
    for problem in options.problems():
        problems.add(problem)
    if n_workers < 1:
        problems.add(f"--n_workers must be at least 1; got {n_workers}")
    if data_dir.exists() and not data_dir.is_dir():
        problems.add(f"--data_dir {str(data_dir)!r} is a file; it must be a folder, or a name for a new one")
    try:
        layout = read(problems)
    except OSError as error:  # a folder that may not be listed: what is in it would be left out silently
        problems.add(f"{error.filename or 'the source'} cannot be read: {error.strerror or error}")
    problems.check()
    unlabelled = {}
    try:
        unlabelled = layout.unlabelled(journal.FILE)
    except OSError as error:
        layout.notes.append(
            f"{error.filename or 'a folder'} cannot be listed ({error.strerror or error}): media files without a label "
            "were not looked for"
        )
    pool.require(options)

    root = data_dir / layout.dataset
    staging = root / folder.STAGING
    try:
        with folder.held(root):
            if overwrite:
                earlier = journal.Journal.of_any_options(root)
                folders = {**_folders(layout.videos.values()), **earlier.made()}
                envs = {*layout.envs, *(env for video in earlier.videos.values() for env in video.envs)}
                folder.remove_made(root, sorted(envs), folders)
                book = journal.Journal(root, options, layout.complete)
            else:
                book = journal.Journal.open(root, options, layout.complete)
            result = report.PrepareReport(layout.dataset, root, layout.source, layout.compression, options)
            result.unlabelled = unlabelled
            try:
                videos = _make(layout, book, root, staging, n_workers, result)
                result.notes += book.notes()
                _finish(layout, videos, result)
            finally:
                shutil.rmtree(staging, ignore_errors=True)  # after a kill, the next run removes it
    except OSError as error:
        raise RogaError(
            f"{error.strerror or error}: {error.filename or data_dir}; finished videos are kept, there is no "
            "manifest yet: fix this and run the same command again"
        ) from error
    if not result.n_prepared:
        raise RogaError(f"nothing was prepared; {root / report.FILE} has the reasons. {result.summary()}")
    return result


def _make(
    layout: Layout,
    book: journal.Journal,
    root: Path,
    staging: Path,
    n_workers: int,
    result: report.PrepareReport,
) -> dict[str, Video]:
    """Crop the videos that are not finished; returns key → video for all outcomes in ``result``, earlier ones too."""
    replaced = _replaced(layout, book)
    todo = [
        video for key, video in layout.videos.items() if not _is_finished(root, video, book.outcomes.get(key))
    ]
    made = book.made()
    emptied = _folders([*todo, *(book.videos[key] for key in replaced)])
    refilled = {name: made.get(name) for name in emptied} | _incomplete(root, book)
    folder.refuse(root, folder.in_the_way(root, refilled))

    (root / manifest.FILE).unlink(missing_ok=True)
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir()
    for name in emptied:
        folder.discard(root / name, made.get(name), staging)
    for key in replaced:
        book.forget(key)
    earlier = {
        key: video
        for key, video in book.videos.items()
        if key not in layout.videos and _is_whole(root, book.outcomes[key])
    }
    videos = {**layout.videos, **earlier}
    used = _used(layout, videos)
    book.videos.update(layout.videos)
    tasks = [(video, _folder(video, _placed(video, used)[0])) for video in todo]
    result.n_resumed = len(layout.videos) - len(todo)
    with (
        book,
        tqdm(
            total=len(layout.videos),
            initial=result.n_resumed,
            desc=root.name,
            unit="video",
            mininterval=0.5 if sys.stderr.isatty() else 30,  # a log file needs no more
        ) as progress,
    ):
        for outcome in pool.make_all(tasks, book.options, root, staging, n_workers):
            book.add(outcome)
            progress.update()
    if earlier:
        result.notes.append(f"{len(earlier)} videos prepared earlier are not in this source; they are kept")
    groups = list(layout.expected)
    result.outcomes = sorted(
        (book.outcomes[key] for key in videos),
        key=lambda item: (groups.index(videos[item.key].group), item.key),
    )
    n_copied = sum(
        not _share(root, outcome, env, staging)
        for outcome in result.outcomes
        if outcome.written
        for env in _placed(videos[outcome.key], used)
    )
    if n_copied:
        result.notes.append("the file system has no hard links: each environment has a copy of the reals")
    return videos


def _finish(layout: Layout, videos: dict[str, Video], result: report.PrepareReport) -> None:
    result.splits = layout.split_pairs
    result.classes = report.count_classes(layout, result.outcomes)
    result.by_split = report.count_splits(layout, videos, result.outcomes)
    result.missing = _missing(layout, result.outcomes)
    result.notes += layout.notes
    for count in result.classes:
        if count.expected is not None and count.found > count.expected:
            result.notes.append(
                f"{count.name} has {count.found - count.expected} videos more than {layout.dataset} has: "
                "is the source another dataset, or another version of this one?"
            )
    rows = _rows(layout, videos, result)
    result.notes += _lacking(layout, rows)
    result.write()
    report_page.write(result, rows)
    if len(rows):
        manifest.write(result.folder, rows)


def _lacking(layout: Layout, rows: pd.DataFrame) -> Iterable[str]:
    """A sentence for each class that some environments lack."""
    for label, word in ((manifest.REAL, "reals"), (manifest.FAKE, "fakes")):
        made = set(rows["env"][rows["label"] == label])
        lacking = [env for env in layout.envs if env not in made]
        if lacking:
            plural = "s" if len(lacking) > 1 else ""
            verb = "have" if plural else "has"
            yield f"environment{plural} {', '.join(lacking)} {verb} no {word}: there is no usable video of them"


def _used(layout: Layout, videos: dict[str, Video]) -> set[str]:
    """The environments with videos of their own; shared videos go to these, or to their first if there are none."""
    return {video.envs[0] for video in videos.values() if len(video.envs) == 1}


def _placed(video: Video, used: set[str]) -> list[str]:
    return [env for env in video.envs if env in used] or [video.envs[0]]


def _folder(video: Video, env: str) -> str:
    return f"{env}/{manifest.CLASS_FOLDERS[video.label]}/{video.name}"


def _folders(videos: Iterable[Video]) -> dict[str, None]:
    """The folders of the videos, with their links in other environments."""
    return {_folder(video, env): None for video in videos for env in video.envs}


def _replaced(layout: Layout, book: journal.Journal) -> list[str]:
    """Keys of what an earlier run made of a file that now has another name, class or environment."""
    sources = {video.source for video in layout.videos.values()}
    return [
        key
        for key, video in book.videos.items()
        if key not in layout.videos and (layout.complete or video.source in sources)
    ]


def _incomplete(root: Path, book: journal.Journal) -> dict[str, Outcome]:
    """Folder → outcome, of links in other environments that lack a frame: they are made again."""
    shared = {key: video for key, video in book.videos.items() if len(video.envs) > 1}
    places = (
        (_folder(video, env), book.outcomes[key]) for key, video in shared.items() for env in video.envs
    )
    return {
        name: outcome
        for name, outcome in places
        if outcome.written and (root / name).exists() and not _has_all(root / name, outcome)
    }


def _is_finished(root: Path, video: Video, outcome: Outcome | None) -> bool:
    if outcome is None or not _is_whole(root, outcome):
        return False
    if video.frames is not None and not set(outcome.planned) <= {index for index, _ in video.frames}:
        return False  # the list has other frames now
    try:
        return video.source_bytes() == outcome.source_bytes
    except OSError:  # the source went away after it had been prepared
        return True


def _is_whole(root: Path, outcome: Outcome) -> bool:
    return bool(outcome.written) and _has_all(root / outcome.folder, outcome)


def _has_all(place: Path, outcome: Outcome) -> bool:
    return place.is_dir() and set(os.listdir(place)) >= set(outcome.names())


def _share(root: Path, outcome: Outcome, env: str, staging: Path) -> bool:
    """Link the video of ``outcome`` into ``env``; False if it had to be copied."""
    made = root / outcome.folder
    target = root / env / outcome.folder.split("/", 1)[1]
    if target == made or _has_all(target, outcome):
        return True
    folder.discard(target, outcome, staging)
    part = staging / "shared"
    part.mkdir()
    linked = True
    for name in outcome.names():
        linked = _link_or_copy(made / name, part / name) and linked
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(part, target)
    return linked


def _link_or_copy(path: Path, target: Path) -> bool:
    if path.is_symlink():
        os.symlink(os.readlink(path), target)
        return True
    try:
        os.link(path, target)
    except OSError:  # error codes differ by system; a full disk fails in the copy too, and is reported there
        shutil.copyfile(path, target)
        return False
    return True


def _missing(layout: Layout, outcomes: list[Outcome]) -> dict[str, list[str]]:
    """Group → names of the videos that should exist, are not in the source, and were not prepared earlier."""
    there = set(layout.videos) | {outcome.key for outcome in outcomes if outcome.written}
    missing = {
        group: [name for name in names if f"{group}/{name}" not in there]
        for group, names in layout.wanted.items()
    }
    return {group: names for group, names in missing.items() if names}


def _rows(layout: Layout, videos: dict[str, Video], result: report.PrepareReport) -> pd.DataFrame:
    used = _used(layout, videos)
    rows = []
    for outcome in result.outcomes:
        video = videos[outcome.key]
        for env in _placed(video, used):
            rows += [
                {
                    "path": f"{_folder(video, env)}/{name}",
                    "dataset": layout.dataset,
                    "env": env,
                    "method": video.method,
                    "compression": layout.compression,
                    "label": video.label,
                    "video": video.name,
                    "recording": video.recording,
                    "identities": video.identities,
                    "split": video.split,
                    "frame": index,
                }
                for index, name in zip(outcome.written, outcome.names(), strict=True)
            ]
    return pd.DataFrame(rows, columns=list(manifest.COLUMNS))
