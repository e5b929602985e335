"""``explain``: figures of short runs on a small SynthFake, and everything that is refused."""

import html
import json
import re
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from prepare_videos import SQUARES, write_video

from datasets_ext.prepare.detectors import DETECTORS
from datasets_ext.synthfake.generate import generate
from roga_domainbed.catalog import DATASETS
from roga_domainbed.cli import explain as command
from roga_domainbed.cli import main
from roga_domainbed.inference.explain.methods import METHODS
from roga_domainbed.report.figures.drawing import FORMATS
from roga_domainbed.report.figures.heat_maps import overlaid
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train

pytest.importorskip("pytorch_grad_cam")


def train_shortly(data, folder, algorithm="ERM", skip_model_save=False, **hparams):
    hparams = json.dumps({"batch_size": 4, **hparams})
    options = {"hparams": hparams, "steps": 2, "n_workers": 0, "test_envs": [3], "algorithm": algorithm}
    options |= {"output_dir": str(folder), "skip_model_save": skip_model_save}
    train(TrainConfig(str(data), "SynthFake", **options))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with ``data``, and the runs ``erm``, ``roga``, ``unsaved`` and ``mlp`` that held out NT."""
    folder = tmp_path_factory.mktemp("place")
    generate(folder / "data", n_identities=6, n_frames=4)
    train_shortly(folder / "data", folder / "erm")
    train_shortly(folder / "data", folder / "roga", "RoGA")
    train_shortly(folder / "data", folder / "unsaved", skip_model_save=True)
    train_shortly(folder / "data", folder / "mlp", backbone="mlp")
    return folder


@pytest.fixture
def explain(place, tmp_path, monkeypatch, capsys):
    """Run the command in a new folder beside the data and the runs; its output, or its error for another ``code``."""
    for entry in place.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()  # what the trainings printed

    def run(line, code=0):
        assert main(["explain", *line.split()]) == code
        out, err = capsys.readouterr()
        return err if code else out

    run.printed = lambda: capsys.readouterr().out
    return run


def test_the_names_that_help_needs_without_torch_are_those_of_the_code():
    assert tuple(METHODS) == command.METHODS
    assert {*(f".{name}" for name in FORMATS), ".html"} == set(command.FORMATS)


def test_a_grid_of_two_runs_is_drawn_in_every_format_and_twice_the_same(explain, tmp_path):
    out = explain("cam --run erm roga --output maps.png")
    assert out.splitlines() == [
        "ERM: ERM, trained on SynthFake DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 0",
        "  maps of 8x8 after featurizer.blocks.3.2",
        "RoGA: RoGA, trained on SynthFake DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 0",
        "  maps of 8x8 after featurizer.blocks.3.2",
        "Grad-CAM of 8 images of SynthFake",
        "Written to maps.png",
    ]
    first = (tmp_path / "maps.png").read_bytes()
    with Image.open(tmp_path / "maps.png") as image:
        assert image.width > image.height > 600
        assert len(image.convert("RGB").getcolors(2**24)) > 1000
    explain("cam --run erm --run roga --output maps.png")
    assert (tmp_path / "maps.png").read_bytes() == first
    explain("cam --run erm roga --names A B --method hirescam --n 2 --envs NT 0 --output maps.svg")
    svg = (tmp_path / "maps.svg").read_text()
    assert all(f">{word}</text>" in svg for word in ("A", "B", "NT", "DF", "real", "fake"))
    assert ">F2F</text>" not in svg
    assert svg.count(">real</text>") == 4
    assert "HiResCAM of the logit of fake" in svg
    explain("cam --run erm --method layercam --output maps.pdf")
    assert (tmp_path / "maps.pdf").read_bytes().startswith(b"%PDF")


def test_picture_files_are_explained_whole_as_predict_scores_them(explain, capsys, tmp_path):
    fakes = sorted((tmp_path / "data/SynthFake/NT/1_fake").rglob("*.png"))[:2]
    shutil.copy(fakes[0], "a.png")
    shutil.copy(fakes[1], "b.png")
    out = explain("cam --run erm --images a.png b.png --no_detect --output maps.svg")
    assert out.endswith("Grad-CAM of 2 images of 2 files\npictures taken whole\nWritten to maps.svg\n")
    main(["predict", "erm", "a.png", "b.png", "--no_detect", "--format", "json"])
    predicted = json.loads(capsys.readouterr().out)["results"]
    svg = (tmp_path / "maps.svg").read_text()
    for prediction, name in zip(predicted, ("a.png", "b.png"), strict=True):
        assert f">{name}</text>" in svg
        assert f">p(fake) {prediction['faces'][0]['probability']:.2f}</text>" in svg


def test_features_of_two_runs_are_drawn_and_their_points_written(explain, tmp_path):
    out = explain("tsne --run erm roga --output f.svg --coordinates f.csv")
    lines = out.splitlines()
    table = pd.read_csv("f.csv")
    n = len(table) // 2
    assert lines[-2:] == [f"t-SNE of {n} of {n} test images of SynthFake", "Written to f.svg and f.csv"]
    assert n == 32, "4 environments, 2 classes, 4 frames of the one test person"
    assert table["run"].unique().tolist() == ["ERM", "RoGA"]
    silhouette = float(lines[1].split()[-1])
    assert lines[1] == f"  silhouette of real against fake: {silhouette:.3f}"
    svg = (tmp_path / "f.svg").read_text()
    (shown,) = re.findall(r">ERM: silhouette (-?[0-9.]+)</text>", svg)
    assert float(shown) == pytest.approx(silhouette, abs=0.0055)
    assert all(f">{word}</text>" in svg for word in ("DF", "NT", "real", "fake"))
    explain("tsne --run erm roga --output f.png --coordinates f.parquet")
    again = pd.read_parquet("f.parquet")
    np.testing.assert_allclose(again[["x", "y"]], table[["x", "y"]], rtol=1e-6)
    explain("tsne --run mlp --envs DF NT --n_samples 10 --output f.png")


def test_images_that_the_model_knows_are_refused_and_with_the_flag_the_figure_says_so(explain, tmp_path):
    line = "cam --run erm --folder data/SynthFake/DF --output maps.svg"
    assert "ERM: the model was trained on or selected by" in explain(line, code=2)
    assert not (tmp_path / "maps.svg").exists()
    assert "LEAK: ERM: the model was trained" in explain(f"{line} --allow_leakage")
    assert "LEAK: ERM: the model was trained" in (tmp_path / "maps.svg").read_text()


def page_of(tmp_path, name):
    """The page, its texts, and the words of its command."""
    page = (tmp_path / name).read_text()
    assert page.startswith("<!doctype html>")
    outside = re.findall(r'(?:href|src)="(?!#|data:)[^"]*"|url\((?!#)[^)]*\)', page)
    assert not outside, "a page that needs other files"
    (said,) = re.findall(r"<pre>(.*?)</pre>", page)
    return page, html.unescape(re.sub(r"<[^>]*>", " ", page)), shlex.split(html.unescape(said))


def test_a_page_has_figure_table_notes_and_command(explain, tmp_path):
    line = "cam --run erm roga --names <i>A</i> B --folder data/SynthFake/DF --allow_leakage --output m.html"
    out = explain(line)
    page, text, said = page_of(tmp_path, "m.html")
    assert "<i>A</i>" not in page, "a name is no markup"
    assert "<i>A</i>" in text
    assert "8x8 after featurizer.blocks.3.2" in text
    assert '<li class="warning">LEAK' in page
    assert all(note in text for note in out.splitlines() if note.startswith("LEAK"))
    assert page.count("data:image/png;base64,") == 2 * 3 + 1, "pictures of two images, and the scale"
    assert said[:3] == ["roga-domainbed", "explain", "cam"]
    assert said[3:] == [
        *("--run", "erm", "roga"), *("--names", "<i>A</i>", "B"), *("--output", "m.html"),
        *("--folder", "data/SynthFake/DF"), "--allow_leakage",
    ]  # fmt: skip
    assert "var(--ink)" in page
    explain(" ".join(said[2:]))
    assert page_of(tmp_path, "m.html")[0] == page, "the command on the page makes the page"


def test_a_video_over_time_has_its_scores_and_extreme_frames(explain, tmp_path):
    with DETECTORS.temporarily(SQUARES):
        write_video(tmp_path / "clip.mp4", n_frames=12, no_face=(3,))
        report = {"options": {"detector": "squares", "n_frames": 12}}
        (tmp_path / "own/SynthFake").mkdir(parents=True)
        (tmp_path / "own/SynthFake/prepare-report.json").write_text(json.dumps(report))
        saved = torch.load("erm/model.pkl", weights_only=True)
        saved["args"]["data_dir"] = "own"
        torch.save(saved, "own.pkl")
        out = explain("video --run own.pkl --video clip.mp4 --output t.svg").splitlines()
        explain("video --run own.pkl --video clip.mp4 --output t.html")
        main(["predict", "own.pkl", "clip.mp4", "--format", "text"])
    predicted = re.search(r"\d\.\d+ to \d\.\d+", explain.printed())[0]
    assert re.fullmatch(r"  p\(fake\) (0\.\d{3}) in the mean of 11 faces in 12 frames, " + predicted, out[1])
    assert out[2].startswith("most suspicious: ")
    assert out[2].count(" s") == 5
    assert out[3].startswith("faces by squares, margin 1.3, 256 pixels, 12 frames a video (as in own/")
    svg = (tmp_path / "t.svg").read_text()
    assert all(f">{word}</text>" in svg for word in ("time in s", "p(fake)", "most suspicious", "frame"))
    first = out[2].split(": ")[1].split(",")[0]
    assert f">1: {first}</text>" in svg
    page, text, _ = page_of(tmp_path, "t.html")
    assert out[2] in text
    assert page.count("data:image/png;base64,") == 6 * 2 + 1


def test_the_sharpness_of_two_runs_is_a_table_and_a_figure(explain, tmp_path):
    out = explain("sharpness --run erm roga --rho 0.1 --n_samples 5 --output s.svg").splitlines()
    assert out[0] == "Sharpness at rho = 0.1, on training images"
    assert out[1].split() == "run environment images loss loss at rho sharpness gradient norm".split()
    rows = [line.split() for line in out[2:10]]
    assert [row[:3] for row in rows] == [
        [run, env, n]
        for run in ("ERM", "RoGA")
        for env, n in (("pooled", "15"), ("DF", "5"), ("F2F", "5"), ("FS", "5"))
    ]
    for row in rows:
        loss, at_rho, rise, norm = map(float, row[3:])
        assert rise == pytest.approx(at_rho - loss, abs=2e-3)
        # to first order the loss rises by ρ‖g‖
        assert 0.3 * 0.1 * norm < rise < 3 * 0.1 * norm
    assert out[10].startswith("ERM: ERM, trained on SynthFake")
    svg = (tmp_path / "s.svg").read_text()
    assert all(f">{word}</text>" in svg for word in ("pooled", "DF", "F2F", "FS", "ERM", "RoGA", "loss"))
    assert "--rho" in explain("sharpness --run erm --n_samples 5 --output s.png", code=2), "ERM has none"
    explain("sharpness --run roga --n_samples 5 --output s.html")
    page, text, said = page_of(tmp_path, "s.html")
    assert "Sharpness at rho = 0.02" in text, "RoGA's default for networks from scratch"
    assert page.count('<svg viewBox="0 0 237') == 4, "a panel each, which flow"
    assert "--rho" not in said


REFUSED = [
    ("cam --run unsaved --output m.png", "has no model.pkl: train it again without --skip_model_save"),
    ("cam --run no/such unsaved --output m.png", "2 problems:"),
    ("cam --run erm --method gradcams --output m.png", "unknown method 'gradcams' (did you mean 'gradcam'?)"),
    ("cam --run erm --output m.jpg", "--output 'm.jpg' must end in .png, .svg, .pdf"),
    ("cam --run erm --output no/such/m.png", "the folder 'no/such' does not exist"),
    ("cam --run erm --dataset SynthFakes --output m.png", "did you mean 'SynthFake'?"),
    ("cam --run erm --envs XX --output m.png", "unknown environment 'XX'"),
    ("cam --run erm --n 0 --output m.png", "--n must be at least 1; got 0"),
    ("cam --run erm --n 99 --output m.png", "--n 99 makes 32 columns, and a figure has room for 24"),
    ("cam --run erm roga --names A --output m.png", "--names needs a name for each of the 2 runs; got 1"),
    ("cam --run erm erm --output m.png", "a run is there twice"),
    ("cam --run erm --images x.png --n 2 --envs DF --output m.png", "leave out --n, --envs"),
    ("cam --run erm --images x.png --output m.png", "no such file or folder: 'x.png'"),
    ("cam --run erm --images broken.png --no_detect --output m.png", "cannot read the image 'broken.png'"),
    ("cam --run erm --images clip.mp4 --output m.png", "--images takes pictures, and 'clip.mp4' is a video"),
    ("cam --run erm --no_detect --output m.png", "--no_detect goes with --images"),
    ("cam --run mlp --output m.png", "ERM: heat maps need a feature map in front of the classifier, and mlp has no"),
    ("cam --run erm --folder data --dataset SynthFake --output m.png", "--folder goes without --dataset"),
    ("tsne --run erm --output m.png --n_samples 3", "t-SNE needs at least 10 images"),
    ("tsne --run erm --output m.png --seed -1", "--seed must be at least 0 and below 2**32; got -1"),
    ("tsne --run erm --output m.png --coordinates m.txt", "--coordinates 'm.txt' must end in .parquet, .csv"),
    ("tsne --run erm --output mine.png", "--output 'mine.png' holds something else"),
    ("video --run erm --video x.mp4 --output m.png", "no such file or folder: 'x.mp4'"),
    ("video --run erm --video data --output m.png", "--video takes one video, and 'data' is a folder"),
    ("video --run erm --video broken.png --output m.png", "'broken.png' is a picture: 'explain cam --images'"),
    ("video --run erm --video clip.mp4 --no_detect --output m.png", "cannot read the video 'clip.mp4'"),
    ("video --run erm --video clip.mp4 --n_frames 501 --output m.png", "--n_frames must be from 1 to 500"),
    ("video --run mlp --video clip.mp4 --output m.png", "mlp has no convolution"),
    ("sharpness --run erm --rho 0 --output m.png", "--rho must be above 0 and finite; got 0.0"),
    ("sharpness --run erm --rho nan --output m.png", "--rho must be above 0 and finite; got nan"),
    ("sharpness --run erm --rho 1 --n_samples 0 --output m.png", "--n_samples must be at least 1; got 0"),
    ("sharpness --run erm --rho 1 --data_dir no/such --output m.png", "--data_dir 'no/such' is not a folder"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_a_fault_is_said_and_nothing_is_written(explain, tmp_path, line, message):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "clip.mp4").write_bytes(b"film")
    (tmp_path / "mine.png").write_text("my notes")
    assert message in explain(line, code=2)
    assert not (tmp_path / "m.png").exists()
    assert (tmp_path / "mine.png").read_text() == "my notes"


def test_all_faults_of_the_arguments_come_at_once(explain):
    said = explain("cam --run erm --method x --n 0 --output m.gif", code=2)
    assert all(word in said for word in ("3 problems", "unknown method", "--n must be", "m.gif"))


MISSING = [
    ("cam", "pytorch_grad_cam", "grad-cam"),
    ("video --video x.mp4", "pytorch_grad_cam", "grad-cam"),
    ("tsne", "matplotlib", "matplotlib"),
    ("sharpness", "jinja2", "Jinja2"),
]


@pytest.mark.parametrize(("action", "module", "package"), MISSING)
def test_a_missing_package_is_named_with_its_extra(explain, monkeypatch, action, module, package):
    there = command.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == module else there(name))
    said = explain(f"{action} --run erm --output m.{'html' if module == 'jinja2' else 'png'}", code=2)
    assert (
        f"explain {action.split()[0]} needs the package '{package}': pip install 'roga-domainbed[explain]'"
        in said
    )


def test_a_model_of_another_dataset_is_told_to_name_one(explain, monkeypatch, place):
    saved = torch.load(place / "roga/model.pkl", weights_only=True)
    saved["args"]["dataset"] = "FFPP"
    torch.save(saved, "other.pkl")
    assert "trained on different datasets, SynthFake, FFPP" in explain(
        "cam --run erm other.pkl --output m.png", code=2
    )
    assert "FFPP" in DATASETS


def test_the_hotter_the_less_of_the_image_shows():
    image = np.full((1, 3, 3), 100, np.uint8)
    shown = overlaid(image, np.array([[0.0, 0.5, 1.0]])).astype(int)
    assert shown[0, 0].tolist() == [100, 100, 100]
    # turbo's end is (122, 4, 3) of 255, and 65 % of it
    np.testing.assert_allclose(shown[0, 2], 0.35 * 100 + 0.65 * np.array([122, 4, 3]), atol=1)
