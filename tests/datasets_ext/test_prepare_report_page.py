"""The report as a page: what it says, that it stands alone, and that no name breaks it."""

import base64
import io
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from PIL import Image

from datasets_ext import manifest
from datasets_ext.prepare import report_page
from datasets_ext.prepare.options import CropOptions
from datasets_ext.prepare.outcome import Outcome
from datasets_ext.prepare.report import ClassCount, PrepareReport, SplitCount

EVIL = "<script>alert('x')</script>&\"\udcff"


class Page(HTMLParser):
    """The page's text, its tags and its links to anything."""

    def __init__(self, text):
        super().__init__()
        self.words, self.tags, self.links, self.open = [], [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset")]
        self.in_style = tag == "style"

    def handle_data(self, data):
        if not getattr(self, "in_style", False):
            self.words.append(data)

    def handle_endtag(self, tag):
        self.in_style = False


def report(tmp_path, **changes):
    values = {
        "classes": [ClassCount("real", 1000, 3, 2, 40), ClassCount(EVIL, None, 1, 0, 0)],
        "by_split": [SplitCount("real", "train", 720, 2, 1), SplitCount("real", "", None, 1, 1)],
        "missing": {"real": ["004", EVIL]},
        "notes": [f"a note about {EVIL}"],
        "outcomes": [
            Outcome("real/000", "DF/0_real/000", 9, 30, 20, (0, 5, 9), (0, 9), ((5, "no_face"),)),
            Outcome("real/001", "DF/0_real/001", 9, 30, 30, (0, 5), (0, 5)),
            Outcome(f"{EVIL}/x", "DF/1_fake/x", reason="unreadable", detail=f"moov atom {EVIL}"),
        ],
    }
    return PrepareReport("FFPP", tmp_path, tmp_path / EVIL, "c23", CropOptions(), **{**values, **changes})


def rows(tmp_path, n_videos=2, n_frames=3):
    found = []
    for label in (0, 1):
        for video in range(n_videos):
            for frame in range(n_frames):
                path = f"DF/{manifest.CLASS_FOLDERS[label]}/{video:03d}/{frame:04d}.png"
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (200, 200), (80 * label, 20 * video, 60 * frame)).save(tmp_path / path)
                found.append([path, "FFPP", "DF", "m", "c23", label, f"{video:03d}", "r", "", "", frame])
    return pd.DataFrame(found, columns=list(manifest.COLUMNS))


def written(tmp_path, told=None, frames=None):
    path = report_page.write(told or report(tmp_path), rows(tmp_path) if frames is None else frames)
    assert path.name == "prepare-report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_says_what_was_expected_found_and_dropped_and_why(tmp_path):
    text = written(tmp_path).text
    for part in (
        "FFPP made from",
        "compression c23",
        "2 videos prepared 4 images made 1 videos dropped 1 frames dropped 2 videos not in the source",
        "real 1000 3 2 40",
        "? 1 0 0",  # a class of which nobody knows how many there should be
        "real train 720 2 1",
        "real none ? 1 1",
        "1 video: no frame can be decoded",
        "1 frame of 1 video: no face",
        "real/000 5",  # which frame
        "1 video: fewer frames decode than announced",
        "real/000 30 20",
        "2 real videos: not in the source",
        "detector yunet",
    ):
        assert part in text, part


def test_the_page_needs_no_other_file_and_no_network_and_no_name_runs_or_changes_it(tmp_path):
    page = written(tmp_path)
    assert page.links
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)
    assert page.text.count("<script>alert('x')</script>&\"") >= 5
    content = (tmp_path / "prepare-report.html").read_bytes()
    assert not re.search(r"https?:|@import|url\(", content.decode())
    written(tmp_path)  # what is in it does not depend on when it was written
    assert (tmp_path / "prepare-report.html").read_bytes() == content


def test_the_sheets_show_each_class_of_each_environment_in_small(tmp_path):
    page = written(tmp_path, frames=rows(tmp_path, n_videos=30, n_frames=2))
    images = [Image.open(io.BytesIO(base64.b64decode(link.split(",")[1]))) for link in page.links]
    assert len(images) == 2 * 12  # twelve videos of thirty, evenly spaced
    assert {image.size for image in images} == {(112, 112)}
    assert "DF real 12 images of 30 videos" in page.text
    greens = [image.getpixel((50, 50))[1] for image in images[:12]]
    assert greens[0] == pytest.approx(0, abs=3)
    assert greens[1] == pytest.approx(20 * 2, abs=3)  # the second is video floor(29/11) = 2
    # few videos show several frames each
    assert len(written(tmp_path, frames=rows(tmp_path, n_videos=2, n_frames=9)).links) == 2 * 12
    assert len(written(tmp_path, frames=rows(tmp_path, n_videos=1, n_frames=2)).links) == 2 * 2


def test_a_long_list_is_cut_and_says_so(tmp_path):
    told = report(tmp_path, missing={"real": [f"v{i}" for i in range(1234)]})
    text = written(tmp_path, told).text
    assert "1234 real videos: not in the source" in text
    assert "v999" in text
    assert "v1000" not in text
    assert "and 234 more, in prepare-report.json" in text


def test_without_anything_prepared_there_still_is_a_page(tmp_path):
    told = report(tmp_path, outcomes=report(tmp_path).outcomes[2:])
    page = written(tmp_path, told, rows(tmp_path).iloc[:0])
    assert "Nothing was prepared." in page.text
    assert page.links == []
