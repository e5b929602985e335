"""``hparams['frequency']`` with a checkout's own networks, algorithms and training script."""

import json

import pytest
import torch

pytestmark = pytest.mark.upstream


@pytest.fixture(scope="module")
def host():
    from roga_domainbed.upstream import bridge

    return bridge.register()


def algorithm(host, name, **hparams):
    hparams = {**host.hparams_registry.default_hparams(name, "SynthFake"), "batch_size": 4, **hparams}
    return host.algorithms.get_algorithm_class(name)((3, 64, 64), 2, 2, {**hparams, "pretrained": False})


def test_upstreams_own_networks_get_a_stream(host):
    featurizer = host.networks.Featurizer((1, 28, 28), {"frequency": "phase"})
    assert isinstance(featurizer.network, host.networks.MNIST_CNN)
    assert featurizer(torch.randn(2, 1, 28, 28)).shape == (2, 128)
    both = host.networks.Featurizer((3, 32, 32), {"frequency": "srm"})
    assert both(torch.randn(2, 3, 32, 32)).shape == (2, 2 * both.image.n_outputs)


def test_arm_has_its_context_beside_the_phase(host):
    arm = algorithm(host, "ARM", backbone="meso4", frequency="phase")
    assert next(arm.featurizer.parameters()).shape[1] == 5  # colours, context, phase
    batches = [(torch.rand(4, 3, 64, 64), torch.tensor([0, 1, 0, 1])) for _ in range(2)]
    assert arm.update(batches)["loss"] > 0


@pytest.mark.parametrize("frequency", ["phase", "srm"])
def test_urm_puts_its_activation_after_the_stream(host, frequency):
    urm = algorithm(host, "URM", backbone="meso4", frequency=frequency)
    assert isinstance(urm.featurizer.activation, torch.nn.Tanh)
    assert urm.featurizer(torch.randn(2, 3, 64, 64)).abs().max() <= 1


def test_upstreams_own_script_trains_with_a_stream(run_cli, faces, tmp_path):
    hparams = {"backbone": "meso4", "frequency": "srm", "batch_size": 4}
    run_cli(
        "upstream", "train", "--data_dir", faces, "--dataset", "SynthFake", "--algorithm", "ERM", "--test_envs", 3,
        "--steps", 2, "--checkpoint_freq", 2, "--hparams", json.dumps(hparams), "--output_dir", tmp_path / "out",
    )  # fmt: skip
    state = torch.load(tmp_path / "out" / "model.pkl", weights_only=True)["model_dict"]
    assert {name.split(".")[1] for name in state if name.startswith("featurizer.")} == {"image", "noise"}
