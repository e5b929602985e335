import importlib.util
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare_videos import av, level, write_video

from datasets_ext.prepare.video import UnreadableVideo, frame_counts, visit_frames, visit_spaced_frames

DATA = Path(__file__).parents[1] / "data" / "video"
FIGURES = json.loads((DATA / "figures.json").read_text())
_spec = importlib.util.spec_from_file_location("make", DATA / "make.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


def write_noise(path, codec, n_frames):
    """Frames of about equal size in the file, its index in front."""
    with av.open(
        str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}
    ) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        noise = np.random.default_rng(0)
        for _ in range(n_frames):
            picture = noise.integers(0, 255, (64, 96, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


class Ignored:
    def visit(self, index, rgb):
        """Nothing."""


def visited(path, wanted):
    seen = {}
    count = visit_frames(path, wanted, lambda index, rgb: seen.update({index: rgb}))
    return count, seen


def test_the_wanted_frames_come_in_order_with_their_own_picture(tmp_path):
    path = write_video(tmp_path / "v.mp4", 12)
    assert frame_counts(path) == (12, 12)
    count, seen = visited(path, [11, 0, 5])
    assert count == 12
    assert list(seen) == [0, 5, 11]
    for index, rgb in seen.items():
        assert rgb.shape == (64, 96, 3)
        assert rgb[25:35, 45:55].mean() == pytest.approx(level(index), abs=2.5)


def test_a_cut_file_gives_the_frames_before_the_cut(tmp_path):
    path = write_video(tmp_path / "v.mp4", 20)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    announced, _ = frame_counts(path)
    count, seen = visited(path, range(20))
    assert announced == 20
    assert 12 <= count <= 15  # key frames of about equal size, and the index takes a little
    assert list(seen) == list(range(count))
    assert seen[count - 1][25:35, 45:55].mean() == pytest.approx(level(count - 1), abs=2.5)


@pytest.mark.parametrize("name", FIGURES)
def test_the_pixels_are_those_that_ffmpeg_shows(name, tmp_path):
    video, _, orientation = name.partition(", ")
    path = DATA / video
    if orientation:
        path = tmp_path / video
        path.write_bytes(make.with_matrix((DATA / video).read_bytes(), make.MATRICES[orientation]))
    count, seen = visited(path, range(100))
    expected = FIGURES[name]
    assert count == expected["frames"]
    for index, part in ((0, "first"), (count - 1, "last")):
        assert seen[index].shape == (expected["height"], expected["width"], 3)
        # Builds of FFmpeg differ in the last bits; another orientation, range or matrix of colours, by tens.
        np.testing.assert_allclose(make.fields(seen[index]), expected[part], atol=1.5)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the program ffmpeg is not installed")
@pytest.mark.parametrize(
    "options",
    [
        "-c:v libvpx-vp9 -pix_fmt yuva420p -b:v 200k out.webm",
        "-c:v libvpx -auto-alt-ref 1 -lag-in-frames 16 -b:v 200k out.webm",  # has packets that are never shown
        "-c:v mpeg4 -bf 2 out.avi",
        "-c:v libx264 -movflags frag_keyframe+empty_moov out.mp4",
        "-c:v libx264 -pix_fmt yuv422p10le -color_trc smpte2084 -colorspace bt2020nc out.mkv",
        "-c:v ffv1 -pix_fmt gray12le out.mkv",
        "-c:v prores out.mov",
        "-vf split[a][b];[a]palettegen[p];[b][p]paletteuse out.gif",
        "-c:v apng -f apng -plays 0 out.png",
    ],
)
def test_other_formats_are_as_the_program_ffmpeg_shows_them(options, tmp_path):
    path = tmp_path / options.split()[-1]
    made = "-f lavfi -i testsrc2=s=62x46:r=10:d=1 -strict -2".split()
    make.ffmpeg(*made, *options.split()[:-1], str(path))
    expected = make.shown(path)
    count, seen = visited(path, range(100))
    assert count == len(expected) == 10
    difference = np.abs(np.stack([seen[index] for index in range(count)]) - expected.astype(int))
    assert difference.max() <= 2


@pytest.mark.parametrize("delay", [None, 0, 100])
def test_every_frame_of_a_gif_is_there_whatever_its_delays(tmp_path, delay):
    pictures = [np.full((10, 14, 3), (40 * index, 255 - 40 * index, 90), np.uint8) for index in range(5)]
    first, *others = map(Image.fromarray, pictures)
    first.save(tmp_path / "v.gif", save_all=True, append_images=others, duration=delay or 0)
    if delay is None:  # without the extension that holds the delay: eight bytes before each picture
        data = re.sub(rb"\x21\xf9\x04.{4}\x00", b"", (tmp_path / "v.gif").read_bytes(), flags=re.DOTALL)
        (tmp_path / "v.gif").write_bytes(data)
    assert frame_counts(tmp_path / "v.gif") == (5, 5)
    count, seen = visited(tmp_path / "v.gif", range(5))
    assert count == 5
    assert all((seen[index] == pictures[index]).all() for index in range(5))


@pytest.mark.parametrize(
    "signs",
    [(0.866, 0.5, -0.5, 0.866), (1, 0, 1, 1), (1, 0, 0, 0)],
    ids=["a twelfth of a turn", "sheared", "flat"],
)
def test_a_display_matrix_that_is_no_orientation_is_refused(tmp_path, signs):
    path = tmp_path / "v.mp4"
    data = (DATA / "plain.mp4").read_bytes()
    start = data.index(b"tkhd") + 44  # the name, then 40 bytes of version, flags, times, …
    a, b, c, d = (round(value * 65536) for value in signs)
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data[:start] + matrix + data[start + 36 :])
    with pytest.raises(UnreadableVideo, match="quarter turn"):
        visited(path, [0])


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".avi", ".mp4", ".flv"])
def test_a_file_that_ends_early_tells_how_many_frames_were_announced(tmp_path, suffix):
    path = write_noise(
        tmp_path / f"v{suffix}", {".webm": "libvpx", ".flv": "flv1"}.get(suffix, "libx264"), 50
    )
    whole = visit_spaced_frames(path, 4, lambda planned: Ignored())[1]
    assert (whole.count, whole.is_short) == (50, False)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.3)])
    cut = visit_spaced_frames(path, 4, lambda planned: Ignored())[1]
    assert 5 <= cut.count <= 16  # the first frames may be larger
    assert 48 <= cut.n_declared <= 51  # 50, from a count or from a duration
    assert cut.is_short
    assert cut.is_truncated


def test_sound_that_goes_on_after_the_last_frame_is_no_lack_of_frames(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        video, sound = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=16000)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for index in range(75):
            if index < 25:
                picture = np.full((64, 96, 3), index, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 640), np.float32), "fltp", "mono")
            samples.sample_rate, samples.pts = 16000, index * 640
            container.mux(sound.encode(samples))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    assert frame_counts(path) == (0, 25)


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n", ".m3u8"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n", ".mp4"),
        (b"ffconcat version 1.0\nfile other.mp4\n", ".mp4"),
        (b"\xef\xbb\xbfffconcat version 1.0\n# \xc3\xa9\nfile other.mp4\n", ".mp4"),
        (b"ffconcat version 1.0\n# \x00\nfile other.mp4\n", ".mp4"),
    ],
)
def test_a_playlist_opens_no_other_file(tmp_path, monkeypatch, content, suffix):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "other.mp4", 2)
    Path(f"list{suffix}").write_bytes(content)
    with pytest.raises(UnreadableVideo, match="it is text"):
        visited(Path(f"list{suffix}"), [0])


@pytest.mark.parametrize("name", ["concat:v.mp4", "http:v.mp4", os.fsdecode(b"caf\xe9.mp4"), "%03d.mp4"])
def test_a_name_is_only_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "v.mp4", 2).rename(name)
    assert visited(Path(name), [0])[0] == 2


def test_a_title_that_is_not_utf_8_does_not_matter(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "XXXXcafe"
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        picture = np.zeros((16, 16, 3), np.uint8)
        container.mux(
            [*stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")), *stream.encode(None)]
        )
    path.write_bytes(path.read_bytes().replace(b"XXXXcafe", b"XXXXcaf\xe9"))
    assert frame_counts(path) == (0, 1)


@pytest.mark.parametrize(
    "content",
    [b"GIF89a", b"GIF89a\x01\x00\x01\x00" + b"\xff" * 200, b"GIF89a\x01\x00\x01\x00\x00\x00\x00!\xf9"],
)
def test_a_damaged_gif_is_named_unreadable(tmp_path, content):
    (tmp_path / "v.gif").write_bytes(content)
    with pytest.raises(UnreadableVideo, match="begins as a GIF and is none"):
        visited(tmp_path / "v.gif", range(9))


def test_frames_that_would_fill_the_memory_are_refused(tmp_path):
    gif = (DATA / "delays_of_zero.gif").read_bytes()
    (tmp_path / "v.gif").write_bytes(gif[:6] + b"\xff" * 4 + gif[10:])  # width and height
    with pytest.raises(UnreadableVideo, match="65,535 × 65,535 pixels"):
        visited(tmp_path / "v.gif", range(9))


def test_a_gif_that_ends_inside_a_frame_gives_those_before(tmp_path):
    data = (DATA / "delays_of_zero.gif").read_bytes()
    (tmp_path / "v.gif").write_bytes(data[: int(len(data) * 0.8)])
    count, _ = visited(tmp_path / "v.gif", range(9))
    assert 1 <= count < 6


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "v.mp4")
    with pytest.raises(UnreadableVideo, match="named pipe"):
        frame_counts(tmp_path / "v.mp4")


@pytest.mark.parametrize("content", [b"hello", b"\x00" * 5000])
def test_a_file_that_is_no_video_is_named_unreadable(tmp_path, content):
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableVideo):
        frame_counts(path)


def test_a_file_with_sound_alone_is_unreadable(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    with pytest.raises(UnreadableVideo, match="no video stream"):
        visit_frames(path, [0], lambda index, rgb: None)


def test_predict_notes_a_video_that_ends_early(tmp_path):
    from datasets_ext.prepare.options import CropOptions
    from roga_domainbed.inference.faces import FaceCutter

    path = write_noise(tmp_path / "v.mkv", "libx264", 50)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    prediction, images = FaceCutter(CropOptions(n_frames=2), detect=False, kinds=["video"]).cut(
        str(path), "video"
    )
    assert len(images) == 2
    found = re.fullmatch(r"only (\d+) of its (\d+) frames can be decoded", prediction.note)
    assert 25 < int(found[1]) < 45
    assert 48 <= int(found[2]) <= 51
