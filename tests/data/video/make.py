"""Makes the videos in this folder, and ``figures.json``: their pixels as the program ``ffmpeg`` shows them.

    $ python make.py        # needs ffmpeg; the files here are of version 5.1.9

``figures.json`` has for each video the number of frames and, for the first and the last, height, width and the mean
red, green and blue of 4 × 4 fields. ``plain.mp4`` has eight entries more, one for each display matrix.
"""

import json
import struct
import subprocess
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
WIDTH, HEIGHT, N_FRAMES = 48, 32, 6
H264 = "-c:v libx264 -crf 12 -bsf:v filter_units=remove_types=6"  # without the encoder's long signature
MATRICES = {  # signs of a, b, c, d: a pixel (x, y) goes to (ax + cy, bx + dy)
    "as stored": (1, 0, 0, 1),
    "a quarter clockwise": (0, 1, -1, 0),
    "half a turn": (-1, 0, 0, -1),
    "a quarter counterclockwise": (0, -1, 1, 0),
    "left and right swapped": (-1, 0, 0, 1),
    "up and down swapped": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed along the other diagonal": (0, -1, -1, 0),
}
VIDEOS = {
    "plain.mp4": f"{H264} -pix_fmt yuv420p",
    "ten_bits.mp4": f"{H264} -pix_fmt yuv420p10le",
    "full_range_709.mp4": "-vf scale=out_range=full:out_color_matrix=bt709 -color_range pc -colorspace bt709 "
    f"{H264} -pix_fmt yuv420p",
    "limited_709.mp4": f"-vf scale=out_color_matrix=bt709 -colorspace bt709 {H264} -pix_fmt yuv420p",
    "odd_size.mkv": "-vf crop=47:31:0:0 -c:v ffv1 -pix_fmt yuv420p",
    "stretched.mp4": f"-vf setsar=16/11 {H264} -pix_fmt yuv420p",
    "uneven_times.mp4": f"-vf setpts=N*N/25/TB -vsync vfr -video_track_timescale 600 {H264} -pix_fmt yuv420p",
    "delays_of_zero.gif": "",
}


def ffmpeg(*words: str, given: bytes = b"") -> bytes:
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-y", *words], input=given, capture_output=True, check=True
    )
    return done.stdout


def pictures() -> np.ndarray:
    """Three colours and grey, and a white square that moves."""
    frames = np.full((N_FRAMES, HEIGHT, WIDTH, 3), 60, np.uint8)
    for index, frame in enumerate(frames):
        frame[: HEIGHT // 2, : WIDTH // 2] = 200, 40, 40
        frame[: HEIGHT // 2, WIDTH // 2 :] = 40, 180, 40
        frame[HEIGHT // 2 :, : WIDTH // 2] = 40, 40, 220
        frame[4:12, 4 + 3 * index : 12 + 3 * index] = 255
    return frames


def with_matrix(video: bytes, signs: tuple[int, ...]) -> bytes:
    """An MP4 file with another display matrix in its track header."""
    a, b, c, d = (sign << 16 for sign in signs)
    start = video.index(struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30), video.index(b"tkhd"))
    return video[:start] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + video[start + 36 :]


def shown(path: Path, *filters: str) -> np.ndarray:
    """(N, H, W, 3): every frame as ffmpeg shows it."""
    common = ["-i", str(path), "-map", "0:V:0", *filters]
    size = ffmpeg(*common, "-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm", "-").split(maxsplit=3)[1:3]
    raw = ffmpeg(*common, "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, int(size[1]), int(size[0]), 3)


def fields(frame: np.ndarray) -> list:
    """Mean red, green and blue of 4 × 4 fields, in rows."""
    rows = (field for row in np.array_split(frame, 4) for field in np.array_split(row, 4, axis=1))
    return [[round(float(value), 1) for value in field.mean(axis=(0, 1))] for field in rows]


def figures(frames: np.ndarray) -> dict:
    return {
        "frames": len(frames),
        "height": frames.shape[1],
        "width": frames.shape[2],
        "first": fields(frames[0]),
        "last": fields(frames[-1]),
    }


def main() -> None:
    raw = pictures().tobytes()
    source = f"-f rawvideo -pix_fmt rgb24 -s {WIDTH}x{HEIGHT} -r 25 -i -".split()
    for name, options in VIDEOS.items():
        ffmpeg(
            *source,
            *options.split(),
            "-map_metadata",
            "-1",
            "-fflags",
            "bitexact",
            str(HERE / name),
            given=raw,
        )
    # a cover picture before the video: other pixels
    cover = HERE / "cover.png"
    ffmpeg(*source, "-frames:v", "1", str(cover), given=raw[::-1])
    maps = "-map 1 -map 0 -c copy -disposition:v:0 attached_pic -fflags bitexact".split()
    ffmpeg("-i", str(HERE / "plain.mp4"), "-i", str(cover), *maps, str(HERE / "cover_first.mp4"))
    cover.unlink()
    gif = bytearray((HERE / "delays_of_zero.gif").read_bytes())
    start = gif.find(b"\x21\xf9\x04")
    while start >= 0:
        gif[start + 4 : start + 6] = b"\0\0"
        start = gif.find(b"\x21\xf9\x04", start + 1)
    (HERE / "delays_of_zero.gif").write_bytes(gif)

    found = {name: figures(shown(HERE / name)) for name in (*VIDEOS, "cover_first.mp4")}
    found["stretched.mp4"] = figures(shown(HERE / "stretched.mp4", "-vf", "scale=round(iw*sar):ih"))
    turned = HERE / "turned.mp4"
    for name, signs in MATRICES.items():
        turned.write_bytes(with_matrix((HERE / "plain.mp4").read_bytes(), signs))
        found[f"plain.mp4, {name}"] = figures(shown(turned))
    turned.unlink()
    lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
    (HERE / "figures.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
