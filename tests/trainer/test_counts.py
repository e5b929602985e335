"""What the first record says of samples, videos and people: by hand, for a manifest of six videos."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd

from datasets_ext.synthfake.generate import generate
from roga_domainbed.cli import main
from roga_domainbed.trainer.counts import split_counts
from roga_domainbed.trainer.splits import EnvironmentSplit

# two reals of two people, a third person with two reals of one recording, and two fakes of two people each
VIDEOS = ["r1", "r1", "r2", "r3", "r4", "f1", "f1", "f2"]
LABELS = [0, 0, 0, 0, 0, 1, 1, 1]
PEOPLE = ["a", "a", "b", "c", "c", "a+b", "a+b", "b+c"]


class Opened(SimpleNamespace):
    """As much of an ``OpenDataset`` as is counted."""

    def __getitem__(self, index):
        return self.environments[index]


def dataset(videos=VIDEOS, labels=LABELS, people=PEOPLE, classes=2, has_manifest=True):
    rows = [pd.DataFrame({"label": LABELS, "identities": people})] if has_manifest else None
    environment = SimpleNamespace(videos=videos, labels=None if labels is None else np.array(labels))
    return Opened(environments=[environment], num_classes=classes, rows=rows)


def counts(*indices, **kwargs):
    parts = [list(own) for own in indices]
    (found,) = split_counts(dataset(**kwargs), [EnvironmentSplit(*parts, [])])
    return found


def test_a_fake_counts_for_both_people_and_a_video_once():
    assert counts(range(8), [0, 5]) == {
        "in": {"samples": [5, 3], "videos": [4, 2], "people": [3, 3]},
        "out": {"samples": [1, 1], "videos": [1, 1], "people": [1, 2]},
    }
    assert counts([3, 4, 6], [7])["in"] == {"samples": [2, 1], "videos": [2, 1], "people": [1, 2]}
    assert counts([], [7])["in"] == {"samples": [0, 0], "videos": [0, 0], "people": [0, 0]}


def test_people_are_left_out_where_a_video_names_none():
    people = [*PEOPLE[:7], ""]
    found = counts([0, 7], [1, 5], people=people)
    assert "people" not in found["in"]
    assert found["out"]["people"] == [1, 2]


def test_classes_are_the_manifests_whatever_label_noise_made_of_them():
    assert counts(range(8), [0], labels=[1 - label for label in LABELS])["in"]["samples"] == [5, 3]


def test_without_videos_or_classes_there_are_no_counts():
    assert counts(range(8), [0], videos=None) is None
    assert counts(range(8), [0], classes=7) is None
    assert counts(range(8), [0], labels=None, has_manifest=False) is None
    known = counts([0, 2, 5], [7], has_manifest=False)
    assert known["in"] == {"samples": [2, 1], "videos": [2, 1]}


def test_the_first_record_has_them_once_and_they_agree_with_its_numbers(tmp_path):
    """Five people, a fifth of them to test on, each with a real and a fake video of two frames an environment."""
    generate(tmp_path, n_identities=5, n_frames=2, size=32)
    argv = ["train", "--dataset", "SynthFake", "--data_dir", str(tmp_path), "--test_envs", "1", "2", "3"]
    argv += [
        "--steps",
        "2",
        "--checkpoint_freq",
        "1",
        "--skip_model_save",
        "--output_dir",
        str(tmp_path / "run"),
    ]
    assert main([*argv, "--hparams", json.dumps({"batch_size": 4, "image_size": 32})]) == 0
    first, second = map(json.loads, (tmp_path / "run" / "results.jsonl").read_text().splitlines())
    assert "provenance" not in second
    found = first["provenance"]["counts"]
    for env in (1, 2, 3):
        assert found[env]["in"] == {"samples": [2, 2], "videos": [1, 1], "people": [1, 1]}
        assert (first[f"env{env}_in_n"], first[f"env{env}_in_video_n"]) == (4, 2)
    assert found[0]["in"] == {"samples": [6, 6], "videos": [3, 3], "people": [3, 3]}, "what is trained on"
    assert len(json.dumps(found)) < 1000, "a record stays small"
