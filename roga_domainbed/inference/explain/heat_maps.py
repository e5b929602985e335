"""Heat maps by the package ``grad-cam``: which parts of an image speak for *fake*."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from roga_domainbed.errors import Failed, MissingExtra
from roga_domainbed.inference.explain.feature_map import FeatureMap
from roga_domainbed.inference.explain.methods import METHODS
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.trainer.evaluation import decide


def require_grad_cam() -> None:
    """Refuse if the package is not installed.

    Raises:
        MissingExtra: it names the extra.
    """
    if importlib.util.find_spec("pytorch_grad_cam") is None:
        raise MissingExtra("grad-cam", "explain", "explain cam")


@contextlib.contextmanager
def heat_maps(
    run: SavedRun, where: FeatureMap, method: str
) -> Iterator[Callable[[Tensor], tuple[np.ndarray, np.ndarray]]]:
    """Inside, a function from (B, C, H, W) inputs on the run's device to their heat maps and probabilities of fake.

    The maps are (B, H, W) float32. With A the feature map and G the gradient of the logit of fake in it, before
    scaling they are

    - ``gradcam``: ReLU(Σ_k mean(G_k) A_k), Selvaraju et al., arXiv:1610.02391, Eq. 1 and 2;
    - ``layercam``: ReLU(Σ_k ReLU(G_k) A_k), Jiang et al., doi:10.1109/TIP.2021.3089943;
    - ``hirescam``: ReLU(Σ_k G_k A_k), Draelos and Carin, arXiv:2011.08891.

    Then each is resized bilinearly to the input, shifted and scaled to the range [0, 1]: it tells where in this
    image, not how much. A map that nothing in the image speaks for is zero everywhere. All is computed in float32; the
    probabilities, (B,) float64, are those of the same pass.

    Memory is that of inference: the graph begins at the feature map.

    Args:
        run: a detector; see ``detector.as_detector``. Its weights ask for no gradients afterwards.
        where: the feature map.
        method: one of ``METHODS``.

    Raises:
        Failed: inside, the network's output is not finite.
    """
    library = importlib.import_module("pytorch_grad_cam")  # seconds, and OpenCV
    run.algorithm.requires_grad_(False)
    start = where.module.register_forward_hook(
        _begin_graph
    )  # the library's hooks come later and see its output
    cam = getattr(library, METHODS[method].class_name)(_Logits(run.algorithm), [where.module])

    def explain(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        with torch.enable_grad():
            maps = cam(x, [_fake_logit] * len(x))
        logits = cam.outputs.detach().cpu()
        cam.outputs = None  # and with it the graph
        return maps, decide(logits)[1][:, 1]

    try:
        yield explain
    finally:
        # Not the library's own context manager, which swallows an IndexError.
        cam.activations_and_grads.release()
        start.remove()


class _Logits(nn.Module):
    """(B, C, H, W) → (B, logits), by the algorithm's ``predict``."""

    def __init__(self, algorithm: Any):
        super().__init__()
        self.algorithm = algorithm

    def forward(self, x: Tensor) -> Tensor:
        logits = self.algorithm.predict(x).float().reshape(len(x), -1)
        if not torch.isfinite(logits).all():
            raise Failed("the network's output is NaN or infinite for an image, which has no heat map")
        return logits


def _fake_logit(logits: Tensor) -> Tensor:
    return logits[-1]  # the second of two, or the only one


def _begin_graph(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output.detach().requires_grad_()
