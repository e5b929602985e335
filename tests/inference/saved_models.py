"""Model files as ``train`` writes them, of networks that never learnt anything and whose answers differ."""

import numpy as np
import torch
from torch import nn

from roga_domainbed.engine.hparams_registry import default_hparams
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.upstream import bridge


def pictures(n, side, seed=0):
    """(n, side, side, 3) uint8: coloured noise, coarse in the first ones and fine in the last."""
    rng, found = np.random.default_rng(seed), []
    for i in range(n):
        cells = 2 + i * (side - 2) // max(n - 1, 1)
        index = np.arange(side) * cells // side
        found.append(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)[index][:, index])
    return np.stack(found)


def save_model(
    folder, algorithm="ERM", side=32, classes=("real", "fake"), kind="faces", dataset="SynthFake", **hparams
):
    """``folder/model.pkl``; its probabilities of ``pictures`` spread over (0, 1)."""
    own = {
        **default_hparams(algorithm, "SynthFake"),
        "backbone": "meso4",
        "pretrained": False,
        "image_size": side,
    }
    hparams = {**own, **hparams}
    torch.manual_seed(0)
    algorithm_class = bridge.register().algorithms.get_algorithm_class(algorithm)
    network = algorithm_class((3, side, side), len(classes), 3, hparams)
    x = torch.from_numpy(pictures(32, side, seed=1)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the statistics of these images, not a moving average
        network.train()
        network.predict(x)
        network.eval()
        logits = network.predict(x)
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        last = linear[-1] if linear else nn.Linear(1, 1)  # ForensicTransfer has none
        if logits.std(0).min() > 0 and last.out_features == logits.shape[1]:
            scale = 2 / logits.std(0)
            last.weight.mul_(scale[:, None])
            last.bias.mul_(scale).sub_(logits.mean(0) * scale)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "args": TrainConfig(
            data_dir="nowhere", dataset=dataset, algorithm=algorithm, test_envs=[3]
        ).record_args(),
        "model_input_shape": (3, side, side),
        "model_num_classes": len(classes),
        "model_num_domains": 3,
        "model_hparams": hparams,
        "model_dict": network.state_dict(),
        "model_class_names": tuple(classes),
        "model_image_kind": kind,
    }
    torch.save(content, folder / "model.pkl")
    return folder
