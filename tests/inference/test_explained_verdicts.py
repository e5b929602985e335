"""``predict --explain``: which crops are kept for the figure."""

import pytest
from explained_runs import Detector, run_of
from PIL import Image
from torch import nn

from roga_domainbed.errors import RogaError
from roga_domainbed.inference.explain.verdicts import MOST_SHOWN, KeptCrops, short_names
from roga_domainbed.inference.faces import Face, Prediction

pytest.importorskip("pytorch_grad_cam")


class Files:
    """A cutter that gives ``n`` faces of the file ``n``."""

    def cut(self, path, kind):
        crops = [Image.new("L", (2, 2), number) for number in range(int(path))]
        return Prediction(path, kind, [Face() for _ in crops]), crops


@pytest.fixture
def kept():
    pooled = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return KeptCrops().before(Files(), run_of(Detector(pooled, nn.Linear(2, 2)), (3, 8, 8)))


def score(prediction, *probabilities):
    for face, probability in zip(prediction.faces, probabilities, strict=True):
        face.probability = probability


def test_of_a_video_the_most_suspicious_crop_and_of_an_image_all(kept):
    video, _ = kept.cut("3", "video")
    image, _ = kept.cut("2", "image")
    score(video, 0.2, 0.9, 0.4)
    score(image, 0.6, 0.1)
    found = kept.faces()
    assert [(prediction.path, face.probability) for prediction, face, _ in found] == [
        ("3", 0.9),
        ("2", 0.6),
        ("2", 0.1),
    ]
    assert [crop.getpixel((0, 0)) for _, _, crop in found] == [1, 0, 1]


def test_crops_of_a_video_that_is_scored_are_let_go(kept):
    video, crops = kept.cut("5", "video")
    score(video, 0.1, 0.2, 0.3, 0.4, 0.0)
    kept.cut("1", "image")
    assert sum(len(own) for _, own in kept._kept) == 2
    assert len(crops) == 5, "the caller's own list"


def test_a_figure_has_room_for_so_many_and_what_has_no_number_is_left_out(kept):
    predictions = [kept.cut("1", "image")[0] for _ in range(2 * MOST_SHOWN)]
    for prediction in predictions[1:]:
        score(prediction, 0.5)
    assert len(kept._kept) == MOST_SHOWN
    assert len(kept.faces()) == MOST_SHOWN - 1, "the first one's probability is NaN"


def test_a_model_without_heat_maps_is_refused_before_anything_is_read():
    run = run_of(Detector(nn.Flatten(), nn.Linear(192, 2)), (3, 8, 8))
    with pytest.raises(RogaError, match="heat maps need a feature map"):
        KeptCrops().before(Files(), run)


def test_files_of_one_name_are_told_apart_by_their_folders():
    assert short_names(["in/a.png", "in/b.png"]) == {"in/a.png": "a.png", "in/b.png": "b.png"}
    names = short_names(["x/real/0/a.png", "x/fake/0/a.png", "x/fake/0/a.png"])
    assert names == {"x/real/0/a.png": "real/0/a.png", "x/fake/0/a.png": "fake/0/a.png"}
    assert short_names(["a.png", "in/a.png"]) == {"a.png": "a.png", "in/a.png": "in/a.png"}
