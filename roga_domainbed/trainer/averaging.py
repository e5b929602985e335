"""An average of the weights over the steps, for every algorithm: ``averaging`` and what goes with it.

The algorithm trains as without it, to the bit. After a step, its weights are added to an average that is no part of
it. For an evaluation and for the model's file the two change places, and back: so every ``predict`` works, and no copy
of the network is needed. docs/averaging.md is for users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from roga_domainbed.catalog import AVERAGING_HPARAMS
from roga_domainbed.trainer import batch_statistics
from roga_domainbed.trainer.object_state import CannotRestore, Captured, ObjectState
from roga_domainbed.trainer.swad import Swad

#: ``averaging`` → the hyper-parameters that go with it.
GO_WITH = {"swad": ("swad_converge", "swad_tolerate", "swad_ratio"), "ema": ("ema_decay",)}
_DEFAULTS = {spec.name: spec.default for spec in AVERAGING_HPARAMS}


def problems(hparams: Mapping[str, Any], n_steps: int | None, every: int | None) -> list[str]:
    """Why a run cannot have this averaging, a sentence each.

    Args:
        hparams: of the run; those of the averaging may be missing.
        n_steps: of the run; None where only its data will tell.
        every: steps between its evaluations; likewise.
    """
    found = []
    values = {**_DEFAULTS, **hparams}
    chosen = values["averaging"]
    for choice, names in GO_WITH.items():
        found += [
            f"hparam {name!r} goes with 'averaging' {choice}, and 'averaging' is {chosen}"
            for name in names
            if name in hparams and choice != chosen
        ]
    if chosen == "swad" and n_steps is not None and every is not None:
        n_evaluations = -(-(n_steps - 1) // every)  # without that after step 0
        if n_evaluations < values["swad_converge"]:
            found.append(
                f"hparam 'averaging' swad finds its start from {values['swad_converge']} evaluations after step 0, "
                f"'swad_converge', and the run has {n_evaluations}: give a smaller --checkpoint_freq, or more --steps"
            )
    return found


class Ema:
    """The exponential moving average of the weights: a step weighs ``decay`` times what the next one does.

    The shares of the steps sum to 1 from the first step on, as with Adam's bias correction (arXiv:1412.6980, Section
    3): no step stands for those before it, and the weights before any step are not in the average.

    Args:
        decay: above 0 and below 1.
    """

    def __init__(self, decay: float):
        self.decay = decay
        self._n_steps = 0
        self._mean: list[Tensor] = []

    @property
    def average(self) -> list[Tensor] | None:
        """The average so far, not a copy; None before the first step."""
        return self._mean or None

    def means(self) -> list[list[Tensor]]:
        """Every copy of the weights that it holds."""
        return [self._mean] if self._mean else []

    @torch.no_grad()
    def add(self, step: int, weights: Sequence[Tensor]) -> None:
        """Take the weights after a step: of every step, in order."""
        self._n_steps += 1
        if not self._mean:
            self._mean = [weight.detach().clone() for weight in weights]
            return
        share = (1 - self.decay) / (1 - self.decay**self._n_steps)
        torch._foreach_lerp_(self._mean, list(weights), share)


class Averaging:
    """The average of a run's weights, and its algorithm, in which it takes their place.

    Averaged are all parameters and floating-point buffers that the algorithm has from the start, without the running
    statistics of batch norms: those are estimated anew for the averaged weights (``batch_statistics``), or, where batch
    norms are frozen, stay as they are. Counters and whatever an update makes anew are the algorithm's own.

    Args:
        algorithm: newly built.
        hparams: of the run.
    """

    def __init__(self, algorithm: nn.Module, hparams: Mapping[str, Any]):
        self._algorithm = algorithm
        values = {**_DEFAULTS, **hparams}
        self._rule: Swad | Ema
        if values["averaging"] == "swad":
            self._rule = Swad(values["swad_converge"], values["swad_tolerate"], values["swad_ratio"])
        else:
            self._rule = Ema(values["ema_decay"])
        self._names = _averaged_names(algorithm)
        self._first_counts = batch_statistics.counts(algorithm)
        self._state = ObjectState(self._rule)
        self._is_in_place = False
        self._statistics: list[tuple[Tensor, Tensor]] = []  # those of the batch norms, and a copy

    def add(self, step: int) -> None:
        """Add the weights after ``step``."""
        self._rule.add(step, self._weights())

    def look(self, step: int, validation_loss: float) -> dict[str, Any]:
        """Take the validation loss of the plain weights after ``step``, again or for the first time.

        Returns:
            What the record of the step has of it.
        """
        if isinstance(self._rule, Ema):
            return {}
        self._rule.look(step, validation_loss)
        kept = self._rule.kept
        return {
            "swad_loss": validation_loss,
            "swad_start": kept.get("first"),
            "swad_end": kept.get("last"),
        }

    def sentence(self) -> str:
        """For the person who watches: what the numbers are of."""
        name, since = ("EMA", "") if isinstance(self._rule, Ema) else ("SWAD", " once there is an average")
        return f"Averaging: {name}; records, scores and models are of the averaged weights{since}."

    def sentences(self) -> list[str]:
        """What it has found so far, in the order in which it was found; a notice each."""
        rule = self._rule
        if isinstance(rule, Ema) or rule.threshold is None:
            return []
        found = [
            f"SWAD: the average starts with step {rule.kept['first']}; validation losses above {rule.threshold:.4g} "
            "are too high"
        ]
        if rule.has_ended:
            found.append(
                f"SWAD: the average has ended with step {rule.kept['last']}, after {rule.tolerate} validation losses "
                "that are too high"
            )
        return found

    @property
    def is_empty(self) -> bool:
        """Whether there is no average yet, so that the plain weights are the model."""
        return self._rule.average is None

    @torch.no_grad()
    def take_place(self) -> bool:
        """Give the algorithm the averaged weights until ``put_back``; False if there are none yet.

        Nothing may interrupt this call and leave it half done. The statistics of batch norms are still those of the
        plain weights then: ``estimate`` follows.
        """
        if self.is_empty:
            return False
        buffers = batch_statistics.buffers(self._live_layers())
        self._statistics = [(buffer, buffer.clone()) for buffer in buffers]
        for weight, averaged in self._pairs():
            _exchange(weight, averaged)
        self._is_in_place = True
        return True

    def estimate(self, minibatches: Iterable[Tensor]) -> None:
        """Estimate the statistics of the batch norms for the averaged weights, where they are in place.

        Args:
            minibatches: images of the training environments; not asked for where there is nothing to estimate.
        """
        layers = self._live_layers()
        if layers:
            batch_statistics.estimate(self._algorithm, layers, minibatches)

    def _live_layers(self) -> list[_BatchNorm]:
        return batch_statistics.live_layers(self._algorithm, self._first_counts)

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the algorithm its own weights and statistics again, if it does not have them."""
        if not self._is_in_place:
            return
        for weight, averaged in reversed(self._pairs()):  # exact even where two share their memory
            _exchange(weight, averaged)
        for buffer, own in self._statistics:
            buffer.copy_(own)
        self._statistics, self._is_in_place = [], False

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self._weights(), self._rule.average, strict=True))

    def _weights(self) -> list[Tensor]:
        # By name, at each step: an update may put another tensor in the place of one.
        found = {**dict(self._algorithm.named_parameters()), **dict(self._algorithm.named_buffers())}
        return [found[name] for name in self._names]

    def capture(self) -> Captured:
        """Its state now, as ``ObjectState.capture`` of the algorithm."""
        return self._state.capture()

    def restore(self, captured: Captured) -> None:
        """Restore a captured state.

        Raises:
            CannotRestore: it is none of this averaging.
        """
        if captured is None:
            raise CannotRestore("it has no averaged weights")
        self._state.restore(captured)
        weights = self._weights()
        try:
            for mean in self._rule.means():
                if [tensor.shape for tensor in mean] != [weight.shape for weight in weights]:
                    raise CannotRestore("its averaged weights are of other shapes")
                mean[:] = [tensor.to(weight.device) for tensor, weight in zip(mean, weights, strict=True)]
        except (AttributeError, KeyError, TypeError):
            raise CannotRestore("it holds something else than averaged weights") from None


def of_run(algorithm: nn.Module, hparams: Mapping[str, Any]) -> Averaging | None:
    """The averaging that ``hparams`` ask for; None without one."""
    return None if hparams.get("averaging", "none") == "none" else Averaging(algorithm, hparams)


def _exchange(one: Tensor, other: Tensor) -> None:
    copy = one.clone()
    one.copy_(other)
    other.copy_(copy)


def _averaged_names(algorithm: nn.Module) -> list[str]:
    of_batch_norms = {
        id(buffer)
        for module in algorithm.modules()
        if isinstance(module, _BatchNorm)
        for buffer in module.buffers(recurse=False)
    }
    tensors = [*algorithm.named_parameters(), *algorithm.named_buffers()]
    return [
        name for name, tensor in tensors if tensor.is_floating_point() and id(tensor) not in of_batch_norms
    ]
