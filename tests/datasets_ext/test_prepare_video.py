import numpy as np
import pytest
from prepare_videos import av, level, write_video

from datasets_ext.prepare.video import UnreadableVideo, frame_counts, visit_frames


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


def test_a_video_filmed_sideways_is_turned_upright(tmp_path):
    plain = write_video(tmp_path / "v.mp4", 2)
    turned = tmp_path / "turned.mp4"
    # The display matrix of the track header, patched in place: 90 degrees clockwise instead of none.
    none = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    clockwise = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    data = plain.read_bytes()
    start = data.index(none, data.index(b"tkhd"))
    turned.write_bytes(data[:start] + clockwise + data[start + len(none) :])
    _, as_stored = visited(plain, [0])
    _, upright = visited(turned, [0])
    assert (upright[0] == np.rot90(as_stored[0], -1)).all()


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
