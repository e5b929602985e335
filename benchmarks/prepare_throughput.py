"""Videos a minute that ``prepare`` processes on one core with each detector, and the memory that it needs.

    python benchmarks/prepare_throughput.py VIDEO [VIDEO …] [--repeat 3] [--detectors none yunet mtcnn dlib]

Each detector prepares all videos in a process of its own: one worker, one thread. The rate is by processor time, which
is comparable on a busy machine; wall time is printed beside it. Memory is the largest resident set of that process. The
detector ``none`` takes the middle of the image for a face: that is the cost of decoding, cutting and encoding alone.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from datasets_ext.prepare import csv_list, driver
from datasets_ext.prepare.detectors import DETECTORS, DetectorInfo
from datasets_ext.prepare.options import CropOptions

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Middle:
    """No detector: the middle third of the picture."""

    def detect(self, rgb):
        """See ``Detector``."""
        height, width = rgb.shape[:2]
        return np.array([[width / 3, height / 3, width / 3, height / 3, 1.0, *[0.0] * 10]])


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
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--detectors", nargs="+", default=["none", *DETECTORS.names()])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return prepare_all(args.one, args.videos)
    print(f"{len(args.videos)} videos, median of {args.repeat}; load {os.getloadavg()[0]:.1f}\n")
    print("| detector | videos/min/core | processor, s a video | wall, s a video | peak, MiB | crops |")
    print("|---|---|---|---|---|---|")
    for detector in args.detectors:
        runs = [measured(detector, args.videos) for _ in range(args.repeat)]
        wrong = [run for run in runs if isinstance(run, str)]
        if wrong:
            print(f"| {detector} | {wrong[0]} | | | | |", flush=True)
            continue
        middle = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
        each = middle["processor"] / len(args.videos)
        print(
            f"| {detector} | {60 / each:.1f} | {each:.2f} | {middle['wall'] / len(args.videos):.2f} "
            f"| {middle['peak']:.0f} | {middle['crops']:.0f} |",
            flush=True,
        )
    return None


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
