"""A preparation that is killed at any moment and started again ends with the bytes of one that was not."""

import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prepare_videos import fake_folder, real_folder, write_video

from datasets_ext import manifest
from datasets_ext.prepare import driver, ffpp
from datasets_ext.prepare.detectors import DETECTORS, DetectorInfo
from datasets_ext.prepare.options import CropOptions
from roga_domainbed.errors import RogaError

OPTIONS = CropOptions(n_frames=6, size=48, margin=1.5, detector="slow")
SLOW = DetectorInfo("slow", target="prepare_videos:SlowSquareDetector")
CHILD = """
import sys
sys.path.insert(0, {tests!r})
from test_prepare_kill import prepared
print("begins", flush=True)
prepared(sys.argv[1], sys.argv[2], int(sys.argv[3]))
print("ended", flush=True)
"""


def prepared(source, out, n_workers=1):
    with DETECTORS.temporarily(SLOW):
        read = functools.partial(ffpp.read, source, "c23", None)
        return driver.prepare(read, out, OPTIONS, n_workers)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for number in range(6):
        write_video(real_folder(folder) / f"{number:03d}.mp4", 10, no_face=(number,))
        for method in ("Deepfakes", "Face2Face"):
            write_video(fake_folder(folder, method) / f"{number:03d}_{5 - number:03d}.mp4", 10)
    (real_folder(folder) / "010.mp4").write_bytes(b"not a video")
    return folder


@pytest.fixture(scope="module")
def unbroken(source, tmp_path_factory):
    """The files of an unbroken run, and the seconds that it took."""
    out = tmp_path_factory.mktemp("unbroken")
    begin = time.monotonic()
    prepared(source, out)
    return files(out), time.monotonic() - begin


def files(out: Path) -> dict[str, bytes]:
    """Everything but the journal, whose lines come in the order in which videos were finished."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "prepare-journal.jsonl"
    }


def killed(source: Path, out: Path, n_workers: int, after_s: float) -> bool:
    """Start a preparation, kill it so long after its begin, wait for its workers' end; whether it was at work."""
    code = CHILD.format(tests=str(Path(__file__).parent))
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(source), str(out), str(n_workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    assert child.stdout.readline() == "begins\n"
    time.sleep(after_s)
    child.send_signal(signal.SIGKILL)
    ended = "ended" in child.communicate()[0]
    give_up = time.monotonic() + 30
    while _group_lives(child.pid):
        assert time.monotonic() < give_up, "the workers outlive the run"
        time.sleep(0.02)
    return not ended


def _group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_a_random_moment_it_ends_with_the_same_bytes(seed, source, unbroken, tmp_path):
    expected, duration_s = unbroken
    n_workers = 1 + seed % 2
    start_s = 0 if n_workers == 1 else 1.0  # processes take their time to begin
    moment = start_s + duration_s / n_workers * random.Random(seed).uniform(0, 0.95)
    out = tmp_path / "out"
    # Faster than the unbroken run, it had ended, or only its report was still to be written.
    while not killed(source, out, n_workers, moment) or (out / "FFPP" / manifest.FILE).exists():
        shutil.rmtree(out)
        moment /= 2
    with pytest.raises(RogaError, match="no manifest"):
        manifest.read(out / "FFPP")
    folders = [path for path in out.glob("FFPP/[!.]*/*/*") if path.is_dir()]
    assert all(len(os.listdir(folder)) in (5, 6) for folder in folders)  # whole or absent
    report = prepared(source, out)
    # The last of each worker may lack its journal's line.
    assert report.n_resumed >= len({folder.name for folder in folders}) - n_workers
    assert files(out) == expected
    assert os.listdir(out) == ["FFPP"]
