"""``export``: the file says what the model says, in any number of images; what is refused leaves everything alone."""

import json
import os
import warnings

import numpy as np
import pytest
import torch
from saved_models import pictures, save_model

import roga_domainbed
from roga_domainbed import catalog
from roga_domainbed.cli import main
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.inference import export

ONNX = ("onnx", "onnxscript", "onnxruntime")


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(export, "N_CHECKED", 9)


def exported(capsys, run, path, *argv, code=0):
    kind = "onnx" if path.suffix == ".onnx" else "torchscript"
    assert main(["export", str(run), "--format", kind, "--output", str(path), *argv]) == code
    return capsys.readouterr()


def torchscript(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch calls the format deprecated
        extra = {export.EXTRA_FILE: ""}
        network = torch.jit.load(path, _extra_files=extra)
    return network, json.loads(extra[export.EXTRA_FILE])


@pytest.mark.parametrize("kind", ["faces", "folders"])
@pytest.mark.parametrize("classes", [("real", "fake"), ("altered", "original")])
def test_a_torchscript_file_says_what_the_model_says(kind, classes, tmp_path, capsys):
    run = save_model(tmp_path / "run", kind=kind, classes=classes)
    out = exported(capsys, run, tmp_path / "a.pt").out
    network, about = torchscript(tmp_path / "a.pt")
    images = pictures(11, 32)
    expected = roga_domainbed.load(run).predict(images)
    assert np.ptp(expected) > 0.1
    for n in (11, 1):  # traced with two
        with torch.no_grad():
            found = network(torch.from_numpy(images[:n]))
        assert (found.dtype, found.shape) == (torch.float32, (n,))
        assert found.numpy() == pytest.approx(expected[:n], abs=1e-5)
    assert about["trained_on"] == roga_domainbed.load(run).trained_on
    assert about["roga_domainbed"] == roga_domainbed.__version__
    assert (about["classes"], about["side"]) == ("real, fake", "32")
    assert about["images"].startswith("uint8, N x 32 x 32 x 3, RGB: crops of faces")
    lines = out.splitlines()
    assert lines[0] == about["trained_on"]
    assert lines[1] == "images: uint8, N x 32 x 32 x 3, RGB  ->  probability_of_fake: float32, N"
    assert lines[2].startswith("largest difference of p(fake) on 9 images: ")
    assert lines[3].startswith(f"Written to {tmp_path / 'a.pt'} (")


@pytest.mark.parametrize("frequency", ["none", "phase", "srm"])
def test_a_torchscript_file_names_no_device(frequency, tmp_path, capsys):
    exported(capsys, save_model(tmp_path / "run", frequency=frequency), tmp_path / "a.pt")
    graph = str(torchscript(tmp_path / "a.pt")[0].inlined_graph)
    assert "aten::softmax" in graph
    assert 'value="cpu"' not in graph


def test_the_images_of_the_check_are_faces_with_ever_more_noise():
    images = export.drawn_images(9, 40)
    assert (images.shape, images.dtype) == ((9, 40, 40, 3), np.uint8)
    rough = np.abs(np.diff(images.astype(float), axis=2)).mean(axis=(1, 2, 3))
    assert rough[-1] > 2 * rough[0]
    assert np.array_equal(images, export.drawn_images(9, 40))


def test_an_earlier_file_is_replaced_and_any_other_is_not(tmp_path, capsys):
    run = save_model(tmp_path / "run")
    exported(capsys, run, tmp_path / "a.pt")
    exported(capsys, run, tmp_path / "a.pt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "b.pt")
    (tmp_path / "c.pt").write_text("notes")
    os.mkfifo(tmp_path / "d.pt")
    (tmp_path / "e.pt").symlink_to("e.pt")
    for name in "bcde":
        said = exported(capsys, run, tmp_path / f"{name}.pt", code=2).err
        assert "holds something else; choose another name, or remove it" in said
    assert torch.load(tmp_path / "b.pt", weights_only=True) == {"weight": torch.zeros(1)}
    assert (tmp_path / "c.pt").read_text() == "notes"


class Leaning(ERM):
    """Looks at the whole batch, and its row does not say so."""

    def predict(self, x):
        logits = super().predict(x)
        return logits - logits.mean(0)


def test_what_says_something_else_is_not_written(tmp_path, capsys):
    info = catalog.AlgorithmInfo("Leaning", target=f"{__name__}:Leaning")
    with catalog.ALGORITHMS.temporarily(info):
        run = save_model(tmp_path / "run", algorithm="Leaning")
        said = exported(capsys, run, tmp_path / "a.pt", code=1).err
    assert "the file's probabilities differ from the model's by up to" in said
    assert "or its predict draws random numbers or looks at the whole batch" in said
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("algorithm", ["ARM", "MTL"])
def test_what_adapts_to_its_batch_is_refused(algorithm, tmp_path, capsys):
    run = save_model(tmp_path / "run", algorithm=algorithm)
    said = exported(capsys, run, tmp_path / "a.pt", code=2).err
    assert f"{algorithm} adapts to the images that it predicts together" in said
    assert not (tmp_path / "a.pt").exists()


def test_what_is_no_detector_is_refused_until_its_classes_are_named(tmp_path, capsys):
    run = save_model(tmp_path / "run", classes=("0", "1"), kind="folders")
    assert (
        "export is for models that tell real from fake"
        in exported(capsys, run, tmp_path / "a.pt", code=2).err
    )
    exported(capsys, run, tmp_path / "a.pt", "--real", "1", "--fake", "0")
    found = torchscript(tmp_path / "a.pt")[0](torch.from_numpy(pictures(3, 32))).detach().numpy()
    assert found == pytest.approx(roga_domainbed.load(run).predict(pictures(3, 32))[:, 0], abs=1e-5)
    assert "names nothing here" in exported(capsys, run, tmp_path / "a.pt", "--real", "x", code=2).err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("--format tflite --output a.pt", "unknown format 'tflite'; known: onnx, torchscript"),
        ("--format onnx --output a.pt", "--output 'a.pt' must end in .onnx for --format onnx"),
        ("--format torchscript --output a.pth", "must end in .pt for --format torchscript"),
        ("--format torchscript --output no/a.pt", "the folder 'no' does not exist"),
        ("--format torchscript --output d.pt", "'d.pt' is a folder; give the name of a file"),
        ("--format torchscript --output a.pt", "no such run: 'none'"),
    ],
)
def test_a_fault_is_said_before_anything_is_loaded(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.pt").mkdir()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert main(["export", "none", *argv.split()]) == 2
    assert said in capsys.readouterr().err


def test_all_that_is_missing_is_said_at_once(monkeypatch, capsys):
    monkeypatch.setattr("roga_domainbed.cli.export.find_spec", lambda name: None)
    assert main(["export", "none", "--format", "onnx", "--output", "a.txt"]) == 2
    said = capsys.readouterr().err
    assert "4 problems" in said
    for package in ONNX:
        assert f"needs the package '{package}': pip install 'roga-domainbed[export]'" in said


LARGE = ("resnet34", "xception", "efficientnet_b4")


def onnx_answers(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probability_of_fake"], {"images": images})
    return found, session.get_modelmeta()


@pytest.mark.parametrize(
    ("backbone", "frequency"),
    [
        # the large ones with a stream more take minutes
        pytest.param(
            name, stream, marks=pytest.mark.long if stream != "none" and name in LARGE else pytest.mark.slow
        )
        for name in ("meso4", "mesoinception4", *LARGE)
        for stream in ("none", "phase", "srm")
    ],
)
def test_a_backbone_says_in_onnx_and_torchscript_what_it_says(
    backbone, frequency, tmp_path, monkeypatch, capsys
):
    for package in ONNX:
        pytest.importorskip(package)
    monkeypatch.setattr(export, "N_CHECKED", 100)
    run = save_model(tmp_path / "run", side=64, backbone=backbone, frequency=frequency)
    # phases of weak frequencies, and EfficientNet's many layers, amplify the last digits
    atol = 1e-5 if frequency == "none" and backbone != "efficientnet_b4" else 1e-4
    images = export.drawn_images(100, 64)
    expected = roga_domainbed.load(run, device="cpu").predict(images)
    assert np.ptp(expected) > 0.1
    for path in (tmp_path / "a.pt", tmp_path / "a.onnx"):
        exported(capsys, run, path)
    with torch.no_grad():
        assert torchscript(tmp_path / "a.pt")[0](torch.from_numpy(images)).numpy() == pytest.approx(
            expected, abs=atol
        )
    found, about = onnx_answers(tmp_path / "a.onnx", images)
    assert (found.dtype, found.shape) == (np.float32, (100,))
    assert np.abs(found - expected).max() < atol
    assert about.producer_name == "roga-domainbed"
    assert about.custom_metadata_map["trained_on"].startswith("ERM, trained on SynthFake")
    exported(capsys, run, tmp_path / "a.onnx")  # replaced
    (tmp_path / "b.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    assert "holds something else" in exported(capsys, run, tmp_path / "b.onnx", code=2).err


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [info.name for info in catalog.ALGORITHMS if not info.adapts])
def test_every_algorithm_has_a_torchscript_file(algorithm, tmp_path, capsys):
    exported(capsys, save_model(tmp_path / "run", algorithm=algorithm), tmp_path / "a.pt")
