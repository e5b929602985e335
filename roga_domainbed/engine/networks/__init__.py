"""Featurizers and classifier heads, chosen by input shape or by ``hparams['backbone']``."""

from torch.nn import Identity

from roga_domainbed.engine.networks.classifier import Classifier
from roga_domainbed.engine.networks.featurizer import Featurizer
from roga_domainbed.engine.networks.mlp import MLP
from roga_domainbed.engine.networks.mnist_cnn import MNIST_CNN
from roga_domainbed.engine.networks.resnet import ResNet
from roga_domainbed.engine.networks.wide_resnet import Wide_ResNet

__all__ = ["MLP", "MNIST_CNN", "Classifier", "Featurizer", "Identity", "ResNet", "Wide_ResNet"]
