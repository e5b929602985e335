"""ForensicTransfer against its rule worked by hand for an autoencoder of two weights, and its network's shape."""

import pytest
import torch
from test_algorithms import HOST, build
from torch import nn

from roga_domainbed.algorithms import forensic_transfer
from roga_domainbed.errors import RogaError


class Scaled(nn.Module):
    """Two maps, (a x_0, b x_1)."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.5, 0.25], dtype=torch.float64))

    def forward(self, x):
        return x * self.weights.view(1, 2, 1, 1)


def test_a_step_is_that_worked_by_hand():
    # One fake, x = (2, 3), a = 1/2, b = 1/4. Activations 1 and 3/4: distances 1 and 1/4. The decoder, here the
    # identity, sees the second map alone: (0, 3/4), off by 2 and 9/4, mean 17/8. Slope of a: 2, of the first
    # activation. Of b: −3 of the second, −3/2 of the mean of the two errors.
    algorithm = build("ForensicTransfer", ft_gamma=0.1).double()
    algorithm.featurizer, algorithm.decoder = Scaled(), nn.Identity()
    algorithm.network = nn.Sequential(algorithm.featurizer, algorithm.classifier)
    algorithm.optimizer = torch.optim.SGD(algorithm.featurizer.parameters(), lr=0.1)
    x = torch.tensor([2.0, 3.0], dtype=torch.float64).view(1, 2, 1, 1)
    assert algorithm.predict(x).tolist() == [[1.0, 0.75]]
    values = algorithm.update([(x, torch.tensor([1]))])
    assert values == pytest.approx(
        {"loss": 1.25 + 0.1 * 2.125, "activation_loss": 1.25, "reconstruction_loss": 2.125}, abs=1e-12
    )
    stepped = algorithm.featurizer.weights.tolist()
    assert stepped == pytest.approx([0.5 - 0.1 * 2, 0.25 + 0.1 * (3 + 0.1 * 1.5)], abs=1e-12)


def test_activations_are_the_mean_magnitudes_of_the_halves():
    latent = torch.tensor([[[1.0, -3.0]], [[0.0, 4.0]], [[2.0, 2.0]], [[0.0, 0.0]]]).unsqueeze(0)
    activations = forensic_transfer.HalfActivations()(latent)
    assert activations.tolist() == [[2.0, 1.0]]
    # Real: |2 − 1| + |1 − 0|; fake: |2 − 0| + |1 − 1|.
    for y, distance in ((0, 2.0), (1, 2.0)):
        assert forensic_transfer.activation_distance(activations, torch.tensor([y])).item() == distance
    both = forensic_transfer.activation_distance(
        torch.tensor([[1.0, 0.0], [0.5, 0.75]]), torch.tensor([0, 1])
    )
    assert both.item() == (0 + 0.75) / 2


def test_the_decoder_sees_the_half_of_the_class_alone():
    algorithm = build("ForensicTransfer")
    algorithm.eval()
    latent = torch.rand(2, 128, 2, 2)
    y = torch.tensor([0, 1])
    other = latent.clone()
    other[0, 64:] += 1
    other[1, :64] += 1
    shape = torch.Size((2, 3, 28, 28))
    rebuilt = algorithm._rebuilt(latent, y, shape)
    assert rebuilt.shape == shape
    assert torch.equal(rebuilt, algorithm._rebuilt(other, y, shape))
    other[0, :64] += 1
    assert not torch.equal(rebuilt, algorithm._rebuilt(other, y, shape))


@pytest.mark.parametrize(("side", "latent_side"), [(256, 16), (224, 14), (28, 2)])
def test_the_encoder_divides_sides_by_16_and_the_decoder_multiplies_them(side, latent_side):
    encoder, decoder = forensic_transfer.encoder(3), forensic_transfer.decoder(3)
    latent = encoder(torch.zeros(2, 3, side, side))
    assert latent.shape == (2, 128, latent_side, latent_side)
    assert decoder(latent).shape == (2, 3, 16 * latent_side, 16 * latent_side)


def test_the_encoder_has_the_weights_of_the_papers_layers():
    # 3 × 3 kernels of 3 to 8, 8 to 8, 8 to 16, …, 64 to 128 maps; a bias and two numbers of batch norm for each of
    # 8 + 8 + 16 + 16 + 32 + 32 + 64 + 64 + 128 maps.
    pairs = 24 + 64 + 128 + 256 + 512 + 1024 + 2048 + 4096 + 8192
    assert sum(p.numel() for p in forensic_transfer.encoder(3).parameters()) == 9 * pairs + 3 * 368


def test_its_learning_rate_does_not_go_by_the_datasets_pretrained_network():
    assert HOST.hparams_registry.default_hparams("ERM", "FFPP")["lr"] == 5e-5
    assert HOST.hparams_registry.default_hparams("ForensicTransfer", "FFPP")["lr"] == 1e-3


@pytest.mark.parametrize(("shape", "n_classes"), [((8,), 2), ((3, 28, 28), 7)])
def test_other_than_two_classes_of_images_are_refused(shape, n_classes):
    cls, hparams = type(build("ForensicTransfer")), build("ForensicTransfer").hparams
    with pytest.raises(RogaError, match=rf"{n_classes} classes and inputs of shape \({shape[0]},"):
        cls(shape, n_classes, 3, hparams)
