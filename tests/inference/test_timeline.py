"""A video over time: which frames are shown, when they are, and that scores are those of ``predict``."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from explained_runs import Detector, run_of
from PIL import Image
from torch import nn

from datasets_ext.prepare.options import CropOptions
from datasets_ext.prepare.video import frame_times
from roga_domainbed.errors import RogaError
from roga_domainbed.inference.explain.timeline import chosen_frames, timeline
from roga_domainbed.inference.faces import FaceCutter
from roga_domainbed.inference.predict import predict_files

pytest.importorskip("pytorch_grad_cam")

NAN = float("nan")


def test_shown_frames_are_apart_in_time_and_none_is_shown_twice():
    # of 16 s an eighth is 2 s: 7 and 9 are as near as it goes to 8
    scores = np.array(
        [0.1, NAN, 0.2, 0.3, 0.9, 0.8, NAN, 0.85, 0.95, 0.94, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.05]
    )
    most, least = chosen_frames(scores, np.arange(17.0))
    assert most == [8, 4, 10, 12]
    assert least == [15, 0]


def test_a_video_of_few_frames_shows_what_there_is():
    assert chosen_frames(np.array([0.5]), np.array([0.0])) == ([0], [])
    assert chosen_frames(np.array([0.5, 0.7, 0.1]), np.arange(3.0)) == ([1, 0, 2], [])


def write(path, brightness, times=None):
    """A video of 32x32 frames, each of one grey, with frames between others; ``times`` in tenths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "0", "bf": "2"})
        stream.width = stream.height = 32
        stream.codec_context.time_base = Fraction(1, 10)
        for index, value in enumerate(brightness):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), value, np.uint8), format="rgb24")
            frame.pts = index if times is None else times[index]
            frame.time_base = Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def test_frames_are_shown_when_the_file_says(tmp_path):
    steady = write(tmp_path / "a.mp4", range(0, 200, 20))
    np.testing.assert_allclose(frame_times(steady, 10), np.arange(10) / 10, atol=1e-6)
    uneven = write(tmp_path / "b.mp4", range(0, 80, 20), times=[0, 1, 5, 7])
    np.testing.assert_allclose(frame_times(uneven, 4), [0, 0.1, 0.5, 0.7], atol=1e-6)
    assert frame_times(steady, 9) is None, "which of the ten did not decode is not known"
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (0, 100, 200)]
    frames[0].save(tmp_path / "c.gif", save_all=True, append_images=frames[1:], duration=[500, 200, 100])
    assert frame_times(tmp_path / "c.gif", 3) == [0, 0.5, 0.7]


def by_brightness(sign=1.0):
    """p(fake) grows with the brightness of the image, or falls."""
    conv, linear = nn.Conv2d(3, 2, 1), nn.Linear(2, 2)
    with torch.no_grad():
        conv.weight.fill_(1.0)
        conv.bias.zero_()
        linear.weight.copy_(torch.tensor([[0.0, 0.0], [sign, sign]]))
        linear.bias.zero_()
    pooled = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return run_of(Detector(pooled, linear), (3, 16, 16))


BRIGHTNESS = [20, 30, 60, 50, 40, 200, 210, 90, 80, 70, 60, 50, 240, 30, 20, 10, 0, 10, 20, 30]


def test_scores_are_those_of_predict_and_the_extreme_frames_are_shown(tmp_path):
    path = write(tmp_path / "clip.mp4", BRIGHTNESS)
    run = by_brightness()
    found = timeline({"A": run, "B": by_brightness(0.5)}, path, "gradcam", n_frames=20, detect=False)
    assert found.unit == "s"
    np.testing.assert_allclose(found.at, np.arange(20) / 10, atol=1e-6)
    cutter = FaceCutter(CropOptions(n_frames=20), detect=False, kinds=["video"])
    (expected,) = predict_files(run, [(path, "video")], cutter)
    np.testing.assert_allclose(found.scores["A"], [face.probability for face in expected.faces], atol=1e-6)
    assert np.argmax(found.scores["A"]) == 12
    # 1.9 s / 8: two of a kind are 3 frames apart or more
    assert found.shown[:2] == [12, 6]
    assert found.shown[4] == 16
    assert found.when(12) == "1.2 s"
    assert [column.truth for column in found.grid.columns][:2] == ["1: 1.2 s", "2: 0.6 s"]
    for row, name in zip(found.grid.rows, ("A", "B"), strict=True):
        shown = [cell.probability for cell in row.cells]
        np.testing.assert_allclose(shown, found.scores[name][found.shown], atol=1e-5)
    n = len(BRIGHTNESS)
    assert found.summary("A").startswith(
        f"{found.scores['A'].mean():.3f} in the mean of {n} faces in {n} frames, "
    )


def test_a_file_that_is_no_video_or_shows_no_face_is_said(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(RogaError, match=r"cannot read the video .*broken\.mp4"):
        timeline({"A": by_brightness()}, str(tmp_path / "broken.mp4"), "gradcam", detect=False)
    path = write(tmp_path / "grey.mp4", [100] * 4)
    with pytest.raises(RogaError, match="no face in 4 frames; if they are crops already, pass --no_detect"):
        timeline({"A": by_brightness()}, path, "gradcam")


def test_more_whole_frames_than_memory_holds_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mp4", BRIGHTNESS)
    monkeypatch.setattr("roga_domainbed.inference.faces._MOST_WHOLE", 19 * 32 * 32 * 3)
    with pytest.raises(RogaError, match=r"clip\.mp4: 20 whole frames of 32x32 pixels are too many to hold"):
        timeline({"A": by_brightness()}, path, "gradcam", n_frames=20, detect=False)
