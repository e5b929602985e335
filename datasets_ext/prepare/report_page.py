"""``prepare-report.html``: the report as one self-contained page with contact sheets; it needs no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined, Template
from PIL import Image

from datasets_ext.prepare.images import read_rgb
from datasets_ext.prepare.outcome import FRAME_REASONS, REASONS
from datasets_ext.prepare.report import PrepareReport
from datasets_ext.prepare.sampling import spaced
from roga_domainbed.files import replacing
from roga_domainbed.foreign import printable

FILE = "prepare-report.html"

_N_THUMBNAILS = 12  # of each class of an environment
_THUMBNAIL_SIDE = 112  # pixels
_N_LEAST_SURE = 20  # videos
_N_SHOWN = 1000  # lines of a list; the JSON file has all
_WORDS = ("real", "fake")


def write(report: PrepareReport, rows: pd.DataFrame) -> Path:
    """Write the page into the dataset's folder, atomically.

    Args:
        report: its content.
        rows: the manifest's rows, for the contact sheets.
    """
    content = report.as_json()
    text = _template().render(
        content,
        n_prepared=report.n_prepared,
        n_crops=report.n_crops,
        n_dropped_frames=sum(len(item["frames"]) for item in content["dropped_frames"]),
        n_missing=sum(map(len, report.missing.values())),
        reasons=REASONS,
        frame_reasons=FRAME_REASONS,
        sheets=list(_sheets(report.folder, rows)),
        n_shown=_N_SHOWN,
        unlabelled_in_words=report.unlabelled_in_words(),
        scores_in_words=report.scores_in_words(),
        least_sure=_least_sure(report),
    )
    path = report.folder / FILE
    with replacing(path) as partial:
        partial.write_text(printable(text), encoding="utf-8")  # a file name need not be valid text
    return path


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    source = resources.files("datasets_ext.prepare").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _least_sure(report: PrepareReport) -> list[dict[str, Any]]:
    """The videos with the least sure faces: video, its lowest score, and the frame with it."""
    lowest = sorted(
        (*min(zip(outcome.scores, outcome.written, strict=True)), outcome.key)
        for outcome in report.outcomes
        if outcome.scores
    )
    return [{"video": key, "score": score, "frame": frame} for score, frame, key in lowest[:_N_LEAST_SURE]]


def _sheets(folder: Path, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Some images of each class of each environment, evenly spaced over its videos and their frames."""
    for env in dict.fromkeys(rows["env"]):
        for label, word in enumerate(_WORDS):
            of_class = rows[(rows["env"] == env) & (rows["label"] == label)]
            videos = {str(name): frames.sort_values("frame") for name, frames in of_class.groupby("video")}
            if videos:
                n_each = max(1, _N_THUMBNAILS // len(videos))
                yield {
                    "env": env,
                    "word": word,
                    "n_videos": len(videos),
                    "thumbnails": [
                        thumbnail
                        for name in spaced(list(videos), _N_THUMBNAILS)
                        for thumbnail in _thumbnails(folder, name, videos[name]["path"].tolist(), n_each)
                    ],
                }


def _thumbnails(folder: Path, video: str, paths: list[str], n: int) -> Iterator[dict[str, str]]:
    for path in spaced(paths, n) if n > 1 else [paths[len(paths) // 2]]:
        pixels = read_rgb(folder / path)
        if pixels is not None:
            yield {"video": video, "path": path, "data": _as_url(Image.fromarray(pixels))}


def _as_url(image: Image.Image) -> str:
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
