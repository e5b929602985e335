"""The page of detectors whose scores are in files: their tables, ROC and DET curves, and histograms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from roga_domainbed.metrics import METRICS
from roga_domainbed.metrics.video import video_scores
from roga_domainbed.report.detectors import (
    INTERVALS,
    TOGETHER,
    DetectorMetrics,
    clusters,
    interval_text,
    other_metrics,
    together,
)
from roga_domainbed.report.figures.detection import score_figures
from roga_domainbed.report.figures.figure import Figure, Line
from roga_domainbed.report.html import render
from roga_domainbed.report.page_tables import PageTable, Value, text
from roga_domainbed.report.score_files import ScoredPart, ScoreFile
from roga_domainbed.report.scores import Scores


def detectors_page(found: DetectorMetrics, tick: Callable[[], object] = lambda: None) -> str:
    """The page as HTML; ``tick`` is called after each panel."""
    lines = tuple(Line(file.name, slot) for slot, file in enumerate(found.files))
    names = [file.name for file in found.files]
    return render(
        "detectors.html",
        tick,
        title=f"Scores of {', '.join(names)}",
        files=found.files,
        notes=[*found.notes, *found.missing_values()],
        tables=_tables(found.rows),
        figures=_figures(found.files, lines),
    )


def _tables(rows: Sequence[Mapping[str, Any]]) -> list[PageTable]:
    """A table an environment and level: a row a detector, the best numbers bold."""
    tables = {}
    for row in rows:
        tables.setdefault((row["env_name"], row["level"]), []).append(row)
    metrics = [*(METRICS.get(name) for name in INTERVALS), *other_metrics()]
    found = []
    for (env, level), own in tables.items():
        best = {
            metric.name: max(
                (row[metric.name] for row in own if row[metric.name] is not None),
                key=metric.rank,
                default=None,
            )
            for metric in metrics
        }
        cells = []
        for row in own:
            values = [
                Value(
                    metric.text(row[metric.name]),
                    row[metric.name],
                    interval_text(row, metric.name) if metric.name in INTERVALS else "",
                    len(own) > 1 and row[metric.name] is not None and row[metric.name] == best[metric.name],
                )
                for metric in metrics
            ]
            cells.append((text(row["detector"]), Value(f"{row['n']:,}", row["n"]), *values))
        heads = "Detector", "n", *(metric.heading for metric in metrics)
        found.append(PageTable(f"{env}, {level} level", heads, tuple(cells)))
    return found


def _figures(files: Sequence[ScoreFile], lines: Sequence[Line]) -> list[Figure]:
    """ROC and DET curves of frames and of videos, and histograms of frames."""
    parts: dict[str, dict[Line, ScoredPart]] = {}
    for file, line in zip(files, lines, strict=True):
        for env, part in file.parts.items():
            parts.setdefault(env, {})[line] = part
    for file, line in zip(files, lines, strict=True):
        if len(file.parts) > 1 and not file.has_splits:
            parts.setdefault(TOGETHER, {})[line] = together(file)
    frames = {env: {line: [_frames(part)] for line, part in own.items()} for env, own in parts.items()}
    videos = {
        f"{env}, videos": {line: [_videos(part)] for line, part in own.items() if part.videos is not None}
        for env, own in parts.items()
    }
    curves = {}
    for env, own in frames.items():
        curves[f"{env}, frames" if videos[f"{env}, videos"] else env] = own
        if videos[f"{env}, videos"]:
            curves[f"{env}, videos"] = videos[f"{env}, videos"]
    roc, det, _ = score_figures(curves, lines, "", "")
    _, _, histograms = score_figures(frames, lines, "", "")
    captions = {
        roc: "Share of fakes detected against share of reals taken for fakes. Dashed: chance.",
        det: det.caption,
        histograms: "Density of the scores of frames. The accuracy of probabilities is that at the dashed line.",
    }
    return [replace(figure, caption=caption) for figure, caption in captions.items()]


def _frames(part: ScoredPart) -> Scores:
    keys = np.array(clusters(part), dtype=object)
    return Scores(part.scores, part.labels, keys, part.videos is not None, np.arange(len(keys)))


def _videos(part: ScoredPart) -> Scores:
    known = [i for i, video in enumerate(part.videos) if video is not None]
    scores, labels = video_scores(part.scores[known], part.labels[known], [part.videos[i] for i in known])
    keys = np.arange(len(labels))
    return Scores(scores, labels, keys, True, keys)
