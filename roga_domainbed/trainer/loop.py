"""The training loop: minibatches, updates, records and models."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from roga_domainbed.engine.lib.misc import balanced_weights
from roga_domainbed.errors import RogaError
from roga_domainbed.records import append_record, mark_done
from roga_domainbed.seeds import derive
from roga_domainbed.trainer.evaluation import evaluate, record_values
from roga_domainbed.trainer.experiment import Experiment
from roga_domainbed.trainer.leakage import audit_record
from roga_domainbed.trainer.minibatches import IndexDraw, seed_everything
from roga_domainbed.trainer.model_file import save_model
from roga_domainbed.trainer.profile import Profile
from roga_domainbed.trainer.progress import CheckpointTable
from roga_domainbed.trainer.provenance import provenance
from roga_domainbed.trainer.scores import write_scores
from roga_domainbed.trainer.window import Window


class TrainingLoop:
    """Trains an experiment and writes what comes of it into ``output_dir``."""

    def __init__(self, experiment: Experiment, output_dir: Path):
        self.experiment, self.output_dir = experiment, output_dir
        config, hparams = experiment.config, experiment.hparams
        self.table = CheckpointTable(experiment.names, config.test_envs, experiment.n_steps)
        smallest = min(len(split.in_split) for split in experiment.splits)
        self.steps_per_epoch = smallest / hparams["batch_size"]
        #: what each step reported since the last record
        self.window = Window()
        self.profile = Profile(config.profile, experiment.device)

    def run(self) -> None:
        """Every step, with ``scores.parquet`` at the last one, then ``model.pkl`` and ``done``."""
        experiment = self.experiment
        for message in experiment.notices():
            print(f"Notice: {message}.")
        minibatches = self._minibatches("minibatch", experiment.train_envs, lambda split: split.in_split)
        unlabelled = self._unlabelled()
        for step in range(experiment.n_steps):
            self._update(step, minibatches, unlabelled)
            if step % experiment.checkpoint_freq == 0 or step == experiment.n_steps - 1:
                self._record(step)
        if not experiment.config.skip_model_save:
            save_model(experiment, self.output_dir / "model.pkl")
        mark_done(self.output_dir)
        if self.profile.enabled:
            print("\n" + self.profile.report())

    def _update(self, step: int, minibatches: Iterator[list], unlabelled: Iterator[list] | None) -> None:
        experiment = self.experiment
        start = time.perf_counter()
        with self.profile.section("data"):
            batches = next(minibatches)
            unlabelled_batches = None if unlabelled is None else [x for x, _ in next(unlabelled)]
        loaded = time.perf_counter()
        # Dropout and whatever else an algorithm draws depend on the step alone.
        seed_everything(derive(experiment.config.seed, "update", step))
        with experiment.explained(), experiment.autocast(), self.profile.update(experiment.algorithm):
            values = experiment.algorithm.update(batches, unlabelled_batches)
        clocks = {"data_time": loaded - start, "step_time": time.perf_counter() - start}
        self.window.add(step, {**clocks, **values})

    def _record(self, step: int) -> None:
        experiment, config = self.experiment, self.experiment.config
        record: dict[str, Any] = {"step": step, "epoch": step / self.steps_per_epoch}
        record.update(self.window.means())
        is_last = step == experiment.n_steps - 1
        with self.profile.section("evaluation"):
            evaluated = evaluate(experiment, complete=is_last)
        record.update(record_values(evaluated))
        on_gpu = experiment.device.type == "cuda"
        record["mem_gb"] = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0
        record["hparams"], record["args"] = experiment.hparams, config.record_args()
        if step == 0:
            record["provenance"] = provenance(
                experiment.host,
                experiment.split_mode,
                experiment.device,
                experiment.names,
                audit_record(experiment.leakage),
                experiment.how(),
            )
        if is_last:  # before the record: a run that has its last record has its scores
            write_scores(self.output_dir, evaluated)
        append_record(self.output_dir, record)
        self.table.print(record)
        if config.save_model_every_checkpoint:
            save_model(experiment, self.output_dir / f"model_step{step}.pkl")

    def _minibatches(self, purpose: str, envs: list[int], part: Any) -> Iterator[list]:
        experiment = self.experiment
        batch_size = experiment.hparams["batch_size"]
        draws = []
        for env in envs:
            indices = part(experiment.splits[env])
            if len(indices) < batch_size:
                print(
                    f"Notice: environment {experiment.names[env]} has {len(indices)} samples for a minibatch of "
                    f"{batch_size}: samples repeat within a minibatch."
                )
            weights = None
            if experiment.hparams["class_balanced"] and purpose == "minibatch":
                weights = balanced_weights(experiment.labels(env, indices))
            draws.append(IndexDraw(indices, batch_size, weights))
        return experiment.input.minibatches(envs, draws, purpose, range(experiment.n_steps))

    def _unlabelled(self) -> Iterator[list] | None:
        experiment = self.experiment
        if experiment.config.task != "domain_adaptation":
            return None
        envs = [env for env in experiment.config.test_envs if experiment.splits[env].uda_split]
        if not envs:
            raise RogaError("--task domain_adaptation: no test environment has unlabelled samples to spare")
        return self._minibatches("unlabelled", envs, lambda split: split.uda_split)
