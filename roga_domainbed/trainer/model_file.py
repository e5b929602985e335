"""``model.pkl``: upstream's file of a trained model."""

from __future__ import annotations

from pathlib import Path

from roga_domainbed.trainer.checkpoint import write_durably
from roga_domainbed.trainer.experiment import Experiment
from roga_domainbed.upstream import defects


def save_model(experiment: Experiment, path: Path) -> None:
    """Write upstream's checkpoint, with plain Python values so that ``weights_only`` loading accepts it.

    Raises:
        RogaError: the file cannot be written; an earlier one of that name is intact then.
    """
    state = experiment.algorithm.state_dict()
    if experiment.is_upstreams:
        state = defects.saved_state(experiment.config.algorithm, state)
    checkpoint = {
        "args": experiment.config.record_args(),
        "model_input_shape": experiment.dataset.input_shape,
        "model_num_classes": experiment.dataset.num_classes,
        "model_num_domains": len(experiment.train_envs),
        "model_hparams": experiment.hparams,
        "model_dict": state,
    }
    write_durably(path, checkpoint)
