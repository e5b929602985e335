"""A checkout's own image folders on the fast path."""

import numpy as np
import pytest
import torch
from PIL import Image

from roga_domainbed.host.backend import host
from roga_domainbed.input.environment import OpenDataset
from roga_domainbed.input.minibatches import IndexSampler
from roga_domainbed.input.path import InputOptions, InputPath

pytestmark = pytest.mark.upstream


def test_upstreams_image_folders_are_read_fast_with_their_own_augmentation(tmp_path):
    rng = np.random.default_rng(0)
    for environment in ("art_painting", "cartoon", "photo", "sketch"):
        for label in ("dog", "elephant"):
            folder = tmp_path / "PACS" / environment / label
            folder.mkdir(parents=True)
            for i in range(2):
                Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    assert host().name == "upstream"
    dataset = host().datasets.PACS(str(tmp_path), [0], {"data_augmentation": True})
    environments = OpenDataset(dataset).environments
    reader = InputPath(
        environments, InputOptions(), name="PACS", seed=0, n_workers=1, device=torch.device("cpu")
    )
    assert reader.describe() == {"path": "fast", "augmentation": "domainbed"}
    # environment 0 is the test environment: upstream's own samples are not augmented
    ((_, x, y),) = reader.evaluation([(0, range(4))])
    assert (x - torch.stack([dataset[0][i][0] for i in range(4)])).abs().max() < 1.01 / 255 / 0.224
    assert y.tolist() == [0, 0, 1, 1]
    ((x, _), _) = next(
        reader.minibatches((1, 2), [IndexSampler(range(4), 3) for _ in range(2)], "minibatch", range(1))
    )
    assert x.shape == (3, 3, 224, 224)
