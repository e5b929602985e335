import functools
import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from datasets_ext import manifest
from datasets_ext.synthfake import dataset as dataset_module
from datasets_ext.synthfake import generate as generate_module
from datasets_ext.synthfake.face import disc, locate, render
from datasets_ext.synthfake.frames import real_and_fake
from datasets_ext.synthfake.generate import generate, official_splits
from datasets_ext.synthfake.identity import draw_identity
from datasets_ext.synthfake.manipulate import MANIPULATIONS, Strengths
from datasets_ext.synthfake.recording import draw_recording
from datasets_ext.synthfake.sampling import enlarge, lattice, reduce, soften, warp
from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import RogaError

ENVS = ("DF", "F2F", "FS", "NT")
SMALL = {"n_identities": 3, "n_frames": 2, "size": 32}


def digests(folder):
    """File → digest of its pixels."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(np.asarray(Image.open(path))).hexdigest()
        for path in sorted(folder.rglob("*.png"))
    }


@functools.cache
def pair(env="DF", index=0, size=64, **strengths):
    real, fake = real_and_fake(draw_identity(0, index), 0, env, index, 2, size, Strengths(**strengths))
    return real.astype(int), fake.astype(int)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("synthfake"), **SMALL)


# --- the files ---------------------------------------------------------------------------------------------


def test_pixels_depend_on_the_seed_and_not_on_the_number_of_people_and_frames(tree, tmp_path):
    found = digests(tree)
    assert len(found) == 4 * 2 * 2 * 3
    assert digests(generate(tmp_path / "again", **SMALL)) == found
    other = digests(generate(tmp_path / "other", seed=1, **SMALL))
    assert other.keys() == found.keys()
    assert not set(other.values()) & set(found.values())
    more = digests(generate(tmp_path / "more", **{**SMALL, "n_identities": 4, "n_frames": 3}))
    assert found.items() <= more.items()


def test_the_layout_is_the_one_that_domainbed_reads(tree):
    folders = sorted(path.relative_to(tree).as_posix() for path in tree.glob("*/*"))
    assert folders == sorted(f"{env}/{name}" for env in ENVS for name in ("0_real", "1_fake"))
    files = sorted(path.name for path in (tree / "NT" / "1_fake" / "id002").iterdir())
    assert files == ["000.png", "001.png"]
    found = json.loads((tree / "parameters.json").read_text())
    assert {name: found[name] for name in SMALL} == SMALL


def test_a_generated_file_decodes_to_the_pixels_that_were_drawn(tree):
    real, fake = real_and_fake(draw_identity(0, 2), 0, "FS", 2, 2, 32, Strengths())
    assert np.array_equal(np.asarray(Image.open(tree / "FS" / "0_real" / "id002" / "001.png")), real[1])
    assert np.array_equal(np.asarray(Image.open(tree / "FS" / "1_fake" / "id002" / "001.png")), fake[1])


# --- the manifest ------------------------------------------------------------------------------------------


def test_the_manifest_lists_the_files_and_says_what_their_paths_say(tree):
    rows = manifest.read(tree)
    assert rows["path"].tolist() == sorted(digests(tree))
    assert rows.groupby(["env", "label"]).size().unique().tolist() == [6]
    parts = rows["path"].str.split("/", expand=True)
    assert (parts[0] == rows["env"]).all()
    assert (parts[1] == rows["label"].map({0: "0_real", 1: "1_fake"})).all()
    assert (parts[2] == rows["video"]).all()
    assert (parts[3] == rows["frame"].map("{:03d}.png".format)).all()
    assert (rows["method"] == rows["env"].where(rows["label"] == 1, "real")).all()
    # a fake and its real are one recording, and environments share none
    recordings = rows.groupby("recording")[["label", "env", "identities"]].nunique()
    assert len(recordings) == 4 * 3
    assert (recordings == [2, 1, 1]).all(axis=None)
    # official splits share no person, and every environment has all of them
    assert (rows.groupby("identities")["split"].nunique() == 1).all()
    assert (rows.groupby("env")["split"].nunique() == 3).all()


def test_sixty_people_are_split_40_8_12_and_three_fill_all_splits():
    splits = official_splits(60)
    assert [splits.count(name) for name in ("train", "val", "test")] == [40, 8, 12]
    assert sorted(official_splits(3)) == ["test", "train", "val"]


# --- what is drawn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", ENVS)
def test_a_fake_is_its_real_outside_the_face(env):
    real, fake = pair(env, index=1)
    at = locate(draw_recording(0, env, 1, 2), 64)
    outside = disc(at.face_x, at.face_y - 0.28, 0.75, 0.90, at.pixel) == 0
    assert 0.3 < outside.mean() < 0.9
    assert np.array_equal(real[outside], fake[outside])
    assert not np.array_equal(real, fake)


@pytest.mark.parametrize("env", ENVS)
def test_the_strength_of_an_environment(env):
    name = env.lower()
    difference = np.abs(np.subtract(*pair(env, **{name: 0.0})))
    # the trace alone: amplitude 0.015 × at most 1.7 is 6.5 grey levels, and rounding twice adds less than one
    assert 0 < difference.max() <= 7
    none, weak, strong = (
        np.abs(np.subtract(*pair(env, trace=0.0, **{name: strength}))).mean() for strength in (0.0, 0.3, 1.0)
    )
    assert 0 == none < weak < strong
    others = {other.lower(): 0.0 for other in ENVS if other != env}
    assert np.array_equal(pair(env)[1], pair(env, **others)[1])


def test_the_trace_alternates_from_pixel_to_pixel_in_every_environment_and_has_no_mean():
    sign = 1 - 2 * (np.add.outer(np.arange(64), np.arange(64)) % 2)
    for env in ENVS:
        real, fake = pair(env, noise=0.0, trace=4.0, **{env.lower(): 0.0})
        weight = -((fake - real) * sign[None, :, :, None]).mean(axis=(0, 1, 2))
        assert weight[1] > 0 > max(weight[0], weight[2])
        if env == "DF":
            difference = (fake - real)[..., 1].astype(float)
            # green goes down where the board is up; rounding may give one level
            assert (difference * -sign >= -1).all()
            assert abs(difference.mean()) < 0.05 * np.abs(difference).mean()


@pytest.mark.parametrize("env", ENVS)
def test_classes_have_the_same_mean_brightness(env):
    brightness = np.array([[frames.mean() for frames in pair(env, index=i)] for i in range(12)])
    gap = brightness[:, 1] - brightness[:, 0]
    assert abs(gap.mean()) < 0.1 * brightness[:, 0].std()


def test_sensor_noise_is_on_every_pixel_of_every_frame():
    noisy, clean = pair()[0], pair(noise=0.0)[0]
    difference = (noisy - clean)[(clean > 20) & (clean < 235)]
    assert difference.std() == pytest.approx(0.012 * 255, rel=0.05)
    assert not np.array_equal((noisy - clean)[0], (noisy - clean)[1])


def test_frames_of_a_recording_drift_and_recordings_differ():
    frames, _ = render(draw_identity(0, 0), draw_recording(0, "DF", 0, 3), 64)
    other, _ = render(draw_identity(0, 0), draw_recording(0, "NT", 0, 3), 64)
    step = np.abs(frames[1] - frames[0]).mean()
    assert 0 < step < 0.3 * np.abs(other[0] - frames[0]).mean()


def test_larger_frames_show_the_same_picture():
    identity, recording = draw_identity(0, 3), draw_recording(0, "DF", 3, 1)
    small, large = (render(identity, recording, size)[0] for size in (64, 128))
    assert np.abs(reduce(large, 2) - small).mean() < 0.02


# --- sampling ----------------------------------------------------------------------------------------------


def test_a_lattice_is_read_bilinearly_and_repeats():
    values = np.array([[0.0, 2.0], [4.0, 10.0]])
    assert lattice(values, np.array([0.0, 0.5, 1.0, 2.5]), np.array([0.0, 0.0, 1.0, 0.5])).tolist() == [
        0,
        1,
        10,
        4,
    ]


def test_a_warp_by_whole_and_half_pixels():
    image = np.arange(4.0).reshape(1, 1, 1, 4) * np.ones((1, 3, 4, 1))
    flat = np.zeros((1, 4, 4))
    assert warp(image, flat + 1, flat)[0, 0, 0].tolist() == [1, 2, 3, 3]
    assert warp(image, flat + 0.5, flat)[0, 0, 0].tolist() == [0.5, 1.5, 2.5, 3]
    assert np.array_equal(warp(image.swapaxes(2, 3), flat, flat + 1)[0, 0, :, 0], [1, 2, 3, 3])


def test_reduce_averages_enlarge_aligns_centres_and_soften_weighs_one_two_one():
    row = np.array([0.0, 2.0, 4.0, 6.0]).reshape(1, 1, 1, 4) * np.ones((1, 3, 4, 1))
    assert reduce(row, 2)[0, 0, 0].tolist() == [1, 5]
    assert enlarge(reduce(row, 2), 2)[0, 0, 0].tolist() == [1, 2, 4, 5]
    point = np.zeros((1, 1, 3, 3))
    point[..., 1, 1] = 16
    assert soften(point)[0, 0].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


# --- making it once, and refusals --------------------------------------------------------------------------


def test_a_tree_with_the_same_parameters_is_used_again_and_one_with_others_is_refused(tree):
    marker = tree / "DF" / "0_real" / "id000" / "000.png"
    before = marker.stat().st_mtime_ns
    assert generate(tree.parent, **SMALL) == tree
    assert marker.stat().st_mtime_ns == before
    with pytest.raises(
        RogaError, match=r"other parameters \(n_frames 2 there, 3 wanted\): delete the folder"
    ):
        generate(tree.parent, **{**SMALL, "n_frames": 3})
    with pytest.raises(RogaError, match="strengths"):
        generate(tree.parent, **SMALL, strengths=Strengths(trace=2.0))


@pytest.mark.parametrize("content", [None, "[1, 2]", "{not json", "[" * 100_000, "9" * 5000])
def test_a_folder_that_is_no_such_tree_is_refused(tmp_path, content):
    (tmp_path / "SynthFake").mkdir()
    name = "thesis.txt" if content is None else "parameters.json"
    (tmp_path / "SynthFake" / name).write_text(content or "precious")
    for make in (generate, build):
        with pytest.raises(RogaError, match="was not made by SynthFake"):
            make(tmp_path)


def test_an_empty_folder_is_filled(tree, tmp_path):
    (tmp_path / "SynthFake").mkdir()
    made = generate(tmp_path, **SMALL)
    assert {path.name for path in made.iterdir()} == {path.name for path in tree.iterdir()}


def test_parameters_out_of_range_are_reported_together(tmp_path):
    with pytest.raises(RogaError) as caught:
        generate(
            tmp_path, n_identities=2, n_frames=0, size=50, strengths=Strengths(df=-1, noise=float("nan"))
        )
    message = str(caught.value)
    assert message.startswith("5 problems")
    assert "n_identities must be at least 3; got 2" in message
    assert "size must be a multiple of 32; got 50" in message
    assert "strength 'df' must be 0 or more; got -1" in message
    assert not list(tmp_path.iterdir())


def test_a_tree_that_cannot_be_written_is_named_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(generate_module.manifest, "write", full)
    with pytest.raises(RogaError, match=r"cannot write .*No space left on device"):
        generate(tmp_path, **SMALL)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(RogaError, match=r"cannot write .*SynthFake"):
        generate(tmp_path / "file", **SMALL)


def test_the_slower_of_two_processes_uses_the_tree_of_the_faster(tmp_path, monkeypatch):
    original = generate_module._write_tree

    def overtaken(folder, *rest):
        monkeypatch.setattr(generate_module, "_write_tree", original)
        generate(tmp_path, **SMALL)  # the other process finishes first
        original(folder, *rest)

    monkeypatch.setattr(generate_module, "_write_tree", overtaken)
    assert generate(tmp_path, **SMALL) == tmp_path / "SynthFake"
    assert [path.name for path in tmp_path.iterdir()] == ["SynthFake"]


# --- the data set class ------------------------------------------------------------------------------------


def build(root):
    return dataset_module.SynthFake(root, [3], {"image_size": 32, "data_augmentation": True})


def test_the_class_reads_a_generated_tree(tree):
    assert tuple(MANIPULATIONS) == DATASETS.get("SynthFake").environments == ENVS
    dataset = build(tree.parent)
    assert [environment.name for environment in dataset] == list(ENVS)
    assert [len(environment) for environment in dataset] == [12] * 4
    splits = dataset.split_indices("official", 0, 0.2, [3])
    assert [(len(kept), len(out)) for kept, out in splits] == [(4, 4)] * 4


def test_the_class_generates_the_tree_when_it_is_not_there(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        dataset_module, "generate", lambda root: (asked.append(root), generate(root, **SMALL))
    )
    build(tmp_path / "new")
    build(tmp_path / "new")
    assert asked == [tmp_path / "new"]
    with pytest.raises(RogaError, match="--data_dir"):
        build(None)
