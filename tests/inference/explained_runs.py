"""Saved runs of any network, as if they were loaded."""

from pathlib import Path

import torch
from torch import nn

from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.trainer.config import TrainConfig


class Detector(nn.Module):
    """A featurizer and a classifier with a ``predict``, as the algorithms have them."""

    def __init__(self, featurizer, classifier):
        super().__init__()
        self.featurizer, self.classifier = featurizer, classifier

    def predict(self, x):
        return self.classifier(self.featurizer(x))


def run_of(algorithm, input_shape, **hparams):
    args = TrainConfig(dataset="SynthFake", algorithm="ERM").record_args()
    device = torch.device("cpu")
    return SavedRun(Path("model.pkl"), args, hparams, input_shape, 2, algorithm.eval(), device, {})
