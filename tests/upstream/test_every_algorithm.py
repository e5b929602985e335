"""Every algorithm of an unmodified checkout, and ours on it: trains two steps and reloads, or says why not."""

import json

import pytest
import torch

from roga_domainbed import catalog
from roga_domainbed.errors import RogaError
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train

pytestmark = pytest.mark.upstream

NAMES = catalog.ALGORITHMS.names()
REFUSED = {
    "TRM": "calls .cuda()",
    "RDM": "calls .cuda()",
    "Fishr": "does not work with the installed backpack",
}
NOT_RELOADED = {"GroupDRO": "algorithm.q"}


@pytest.fixture(scope="module")
def host():
    from roga_domainbed.upstream import bridge

    return bridge.register()


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def run(folder, algorithm, hparams=None, dataset="Debug28", **kwargs):
    config = TrainConfig(
        dataset=dataset,
        algorithm=algorithm,
        hparams=json.dumps({"batch_size": 4, **(hparams or {})}),
        n_workers=0,
        output_dir=str(folder),
        **{"steps": 2, "checkpoint_freq": 2, **kwargs},
    )
    train(config)
    return json.loads((folder / "results.jsonl").read_text().splitlines()[-1])


def rebuilt(host, algorithm, checkpoint):
    return host.algorithms.get_algorithm_class(algorithm)(
        checkpoint["model_input_shape"],
        checkpoint["model_num_classes"],
        checkpoint["model_num_domains"],
        checkpoint["model_hparams"],
    )


def test_the_catalog_knows_every_algorithm_of_the_checkout(host):
    assert set(host.algorithms.ALGORITHMS) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_on_faces_and_its_model_reloads_or_one_sentence_says_why_not(name, host, faces, tmp_path):
    kwargs = {"dataset": "SynthFake", "data_dir": str(faces), "test_envs": [3]}
    if name in REFUSED:
        with pytest.raises(RogaError, match=REFUSED[name]):
            run(tmp_path / "run", name, **kwargs)
        return
    record = run(tmp_path / "run", name, **kwargs)
    assert all(f"env{env}_in_{metric}" in record for env in range(4) for metric in ("auc", "ap", "eer"))
    checkpoint = torch.load(tmp_path / "run" / "model.pkl", weights_only=True)
    algorithm = rebuilt(host, name, checkpoint)
    if name in NOT_RELOADED:
        with pytest.raises(RuntimeError, match="size mismatch for q"):
            algorithm.load_state_dict(checkpoint["model_dict"])
        assert NOT_RELOADED[name] in (tmp_path / "run" / "out.txt").read_text()
        algorithm.q = torch.ones(3)  # what the notice says
    algorithm.load_state_dict(checkpoint["model_dict"])
    state = algorithm.state_dict()
    assert state.keys() == checkpoint["model_dict"].keys()
    assert all(torch.equal(state[key], value) for key, value in checkpoint["model_dict"].items())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_random_hyper_parameters_are_plain_numbers_and_train_a_step(name, host, tmp_path):
    # 224 pixels would be upstream's ResNet-50; the family of hyper-parameters is the same
    record = run(tmp_path / "run", name, hparams_seed=1, steps=1, skip_model_save=True)
    assert all(isinstance(value, (bool, int, float, str)) for value in record["hparams"].values())


@pytest.mark.parametrize("name", ["TRM", "RDM"])
def test_what_needs_cuda_trains_where_moving_to_it_works(name, host, monkeypatch, tmp_path):
    from roga_domainbed.upstream import defects

    monkeypatch.setattr(torch.nn.Module, "cuda", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    monkeypatch.setattr(defects, "refusals", lambda job: [])
    assert "env0_in_auc" in run(tmp_path / "run", name, test_envs=[0])


@pytest.mark.parametrize(
    ("name", "hparams", "sentence"),
    [
        ("ERMPlusPlus", {"lars": True}, "LARS"),
        ("CAD", {"is_project": True}, "feature_dim"),
        ("CondCAD", {"is_project": True}, "feature_dim"),
        ("ERM", {"vit": True}, "DINOv2"),
    ],
)
def test_a_hyper_parameter_that_upstream_breaks_on_is_refused_by_name(
    name, hparams, sentence, host, tmp_path
):
    with pytest.raises(RogaError, match=sentence):
        run(tmp_path / "run", name, hparams)


@pytest.mark.parametrize(
    ("name", "hparams", "sentence"),
    [
        ("MLDG", {}, "learns nothing here: with 2 training environments"),
        ("SANDMask", {}, "learns nothing at tau 1.0"),
        ("Transfer", {"gda": True}, "trains only its adversarial head"),
    ],
)
def test_what_trains_and_learns_nothing_says_so_and_does_not_learn(name, hparams, sentence, host, tmp_path):
    run(tmp_path / "run", name, hparams, steps=1)
    first = torch.load(tmp_path / "run" / "model.pkl", weights_only=True)["model_dict"]
    run(tmp_path / "longer", name, hparams, steps=4)
    longer = torch.load(tmp_path / "longer" / "model.pkl", weights_only=True)["model_dict"]
    assert all(
        torch.equal(first[key], longer[key]) for key in first if key.startswith(("featurizer", "network"))
    )
    assert sum(sentence in line for line in (tmp_path / "run" / "out.txt").read_text().splitlines()) == 1


def test_urm_puts_its_activation_into_any_featurizer(host):
    hparams = {**host.hparams_registry.default_hparams("URM", "SynthFake"), "batch_size": 4}
    for backbone in ("meso4", "resnet10t"):
        hparams.update(backbone=backbone, pretrained=False)
        algorithm = host.algorithms.get_algorithm_class("URM")((3, 64, 64), 2, 2, hparams)
        assert isinstance(algorithm.featurizer.activation, torch.nn.Tanh)
        assert algorithm.network[0] is algorithm.featurizer
        assert algorithm.featurizer(torch.randn(2, 3, 64, 64)).abs().max() <= 1


def test_upstreams_image_sizes_start_from_random_weights_or_a_file_without_the_network(host, tmp_path):
    hparams = {**host.hparams_registry.default_hparams("ERM", "Debug224"), "pretrained": False}
    featurizer = host.networks.Featurizer((3, 224, 224), hparams)
    torch.save(featurizer.network.state_dict(), tmp_path / "weights.pth")
    again = host.networks.Featurizer((3, 224, 224), {**hparams, "weights": str(tmp_path / "weights.pth")})
    assert torch.equal(featurizer.network.conv1.weight, again.network.conv1.weight)


@pytest.mark.parametrize("name", ["ERM", "CORAL", "DANN", "MLDG", "URM", "RoGA"])
def test_folders_of_images_train_with_the_metrics_of_a_binary_task(name, host, tmp_path):
    from PIL import Image

    for env in "ACPS":
        for label, shade in (("0_real", 60), ("1_fake", 190)):
            folder = tmp_path / "data" / "PACS" / env / label
            folder.mkdir(parents=True)
            for i in range(6):
                Image.new("RGB", (40, 30), (shade, 10 * i, 90)).save(folder / f"{i}.png")
    kwargs = {"dataset": "PACS", "data_dir": str(tmp_path / "data"), "holdout_fraction": 0.4, "steps": 1}
    record = run(tmp_path / "run", name, {"backbone": "meso4"}, **kwargs)
    assert all(
        f"env{env}_in_{metric}" in record for env in range(4) for metric in ("acc", "auc", "ap", "eer")
    )
