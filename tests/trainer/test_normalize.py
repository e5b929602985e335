"""``hparams['normalize']`` in a whole run: said once, kept in the model's file, and applied by who loads it."""

import json

import pytest
import timm
import torch

import roga_domainbed
from datasets_ext.synthfake.generate import generate
from roga_domainbed.errors import RogaError
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate(folder, n_identities=3, n_frames=1, size=32)
    torch.save(timm.create_model("resnet10t", num_classes=0).state_dict(), folder / "w.pth")
    return folder


def run(data_dir, output_dir, **hparams):
    hparams = {"batch_size": 2, "image_size": 32, "normalize": "backbone", **hparams}
    train(
        TrainConfig(
            data_dir=str(data_dir), dataset="SynthFake", algorithm="ERM", test_envs=[3], steps=2, checkpoint_freq=2,
            n_workers=0, hparams=json.dumps(hparams), output_dir=str(output_dir),
        )
    )  # fmt: skip


def test_a_run_says_it_and_its_model_has_it(data_dir, tmp_path, capsys):
    run(data_dir, tmp_path / "run", backbone="resnet10t", weights=str(data_dir / "w.pth"))
    said = capsys.readouterr().out
    assert (
        said.count("Notice: colours reach the backbone with mean 0.485/0.456/0.406 and standard deviation")
        == 1
    )
    model = roga_domainbed.load(tmp_path / "run")
    assert model.run.hparams["normalize"] == "backbone"
    featurizer = model.run.algorithm.featurizer
    assert featurizer.scale.flatten().tolist() == pytest.approx([0.5 / 0.229, 0.5 / 0.224, 0.5 / 0.225])
    seen = []
    featurizer.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    white = torch.full((32, 32, 3), 255, dtype=torch.uint8).numpy()
    assert 0 < model.predict(white)[0] < 1
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([2.248908, 2.428571, 2.64], abs=1e-5)


def test_a_backbone_without_statistics_is_refused_before_the_first_step(data_dir, tmp_path):
    with pytest.raises(RogaError, match="first weights were trained on images normalized in a known way"):
        run(data_dir, tmp_path / "run", backbone="meso4")
    assert not (tmp_path / "run" / "results.jsonl").exists()
