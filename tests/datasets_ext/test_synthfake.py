import functools
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from datasets_ext import manifest
from datasets_ext.synthfake import dataset as dataset_module
from datasets_ext.synthfake import generate as generate_module
from datasets_ext.synthfake.face import disc, locate, render
from datasets_ext.synthfake.frames import real_and_fake
from datasets_ext.synthfake.generate import generate, official_splits, write_clips
from datasets_ext.synthfake.identity import draw_identity
from datasets_ext.synthfake.manipulate import MANIPULATIONS, Strengths, face_mask, resample
from datasets_ext.synthfake.recording import draw_recording
from datasets_ext.synthfake.sampling import enlarge, lattice, reduce, soften, warp
from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import RogaError
from roga_domainbed.seeds import seed_hash

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


def test_clips_of_a_person_are_the_recordings_that_the_tree_has_of_it(tree, tmp_path):
    write_clips(tmp_path, ("DF", "NT"), person=1, n_frames=2, size=32)
    found, of_tree = digests(tmp_path), digests(tree)
    assert sorted(found) == [f"{clip}/{n:03d}.png" for clip in ("fake-DF", "fake-NT", "real") for n in (0, 1)]
    for clip, env, folder in (
        ("real", "DF", "0_real"),
        ("fake-DF", "DF", "1_fake"),
        ("fake-NT", "NT", "1_fake"),
    ):
        for n in (0, 1):
            assert found[f"{clip}/{n:03d}.png"] == of_tree[f"{env}/{folder}/id001/{n:03d}.png"]


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
    none, weak, strong = (
        np.abs(np.subtract(*pair(env, trace=0.0, **{name: strength}))).mean() for strength in (0.0, 0.3, 1.0)
    )
    assert 0 == none < weak < strong
    others = {other.lower(): 0.0 for other in ENVS if other != env}
    assert np.array_equal(pair(env)[1], pair(env, **others)[1])


@pytest.mark.parametrize("env", ENVS)
def test_the_trace_is_in_every_environment_and_in_proportion_to_its_strength(env):
    one, two = (np.subtract(*pair(env, noise=0.0, trace=trace, **{env.lower(): 0.0})) for trace in (1.0, 2.0))
    assert np.abs(one).max() > 5
    # each of the four images was rounded once, by at most half a level
    assert np.abs(two - 2 * one).max() <= 1.5
    assert np.abs(two).sum() == pytest.approx(2 * np.abs(one).sum(), rel=0.15)


@pytest.mark.parametrize("env", ENVS)
def test_the_trace_is_the_masked_difference_of_a_resampled_face(env):
    clean, at = render(draw_identity(0, 5), draw_recording(0, env, 5, 2), 64)
    rng = np.random.RandomState(seed_hash(0, "forgery", env, 5))
    mask = face_mask(at, rng, lower=env == "NT")
    MANIPULATIONS[env](clean, at, rng, 0.0)  # draws its random numbers, changes nothing
    expected = 255 * mask[:, None] * (resample(clean, rng) - clean)
    real, fake = pair(env, index=5, noise=0.0, **{env.lower(): 0.0})
    inside = (clean > 0.05) & (clean < 0.95)  # nothing was clipped to black or white
    difference = (fake - real).transpose(0, 3, 1, 2) - expected
    assert np.abs(difference[inside]).max() <= 1


def test_a_resampled_ramp_gives_back_shift_scale_and_gain():
    ramp = np.broadcast_to(np.arange(64.0), (1, 3, 64, 64))
    flat = np.ones((1, 3, 64, 64))
    for seed in range(20):
        across, down, gains = (
            resample(image, np.random.RandomState(seed))[0] for image in (ramp, ramp.swapaxes(2, 3), flat)
        )
        assert np.allclose(gains, gains[:, :1, :1])
        assert np.abs(gains - 1).max() < 0.08  # four standard deviations
        across, down = across / gains, down.swapaxes(1, 2) / gains
        interior = np.arange(4, 60)  # elsewhere the border repeats
        for found in (across, down):
            slope, middle = np.polynomial.Polynomial.fit(
                interior - 31.5, found[0, 0, interior], 1, domain=[-1, 1]
            ).coef[::-1]
            assert abs(slope - 1) <= 0.02
            assert 0.08 <= abs(middle - 31.5) <= 0.32
            assert np.allclose(found[..., interior], middle + slope * (interior - 31.5))
        # one scale for both directions
        assert across[0, 0, 40] - across[0, 0, 20] == pytest.approx(down[0, 0, 40] - down[0, 0, 20])


def test_a_shifted_face_keeps_of_a_checkerboard_what_bilinear_interpolation_leaves():
    board = np.where(np.add.outer(np.arange(64), np.arange(64)) % 2, -1.0, 1.0)
    images = np.broadcast_to(board, (1, 3, 64, 64))
    left = [np.abs(resample(images, np.random.RandomState(seed))[..., 31:33, 31:33]) for seed in range(20)]
    # (1 - 2 · shift) in each direction, at shifts of 0.08 to 0.32 ± 0.01 by the scale, and gains near 1
    assert max(each.max() for each in left) < 0.86**2 * 1.08
    assert min(each.min() for each in left) > 0.34**2 * 0.92


@pytest.mark.parametrize("lower", [False, True])
def test_a_mask_covers_the_face_and_has_a_soft_irregular_rim(lower):
    at = locate(draw_recording(0, "DF", 0, 2), 64)
    masks = [face_mask(at, np.random.RandomState(seed), lower) for seed in range(8)]
    middle = np.hypot(at.face_x, at.face_y - 0.5) < 0.15
    brows = at.face_y < -0.12  # above the eyes
    rim = [((mask > 0) & (mask < 1)).mean() for mask in masks]
    for mask in masks:
        assert mask.min() == 0
        assert (mask[middle] == 1).all()
        assert (mask[brows].max() > 0.9) is not lower
    assert max(rim) > 2 * min(rim) > 0  # of random width
    # a rim without dents is an ellipse narrowed at the jaw, hence the same to the left and the right of the nose
    left, right = (face_mask(_mirrored(at, side), np.random.RandomState(0), lower) for side in (1, -1))
    assert not np.allclose(left, right)


def _mirrored(at, side):
    return replace(at, face_x=side * at.face_x)


def test_noise_is_older_than_the_forgery_so_a_pair_shares_it():
    for env in ENVS:
        noisy, clean = np.subtract(*pair(env)), np.subtract(*pair(env, noise=0.0))
        assert np.abs(noisy - clean).mean() < 1  # roundings, and some clipped pixels


@pytest.mark.parametrize("env", ENVS)
def test_without_artefact_and_trace_a_fake_is_its_real(env):
    assert np.array_equal(*pair(env, trace=0.0, **{env.lower(): 0.0}))


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
