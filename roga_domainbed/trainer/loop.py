"""The training loop: minibatches, updates, records, checkpoints and models."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import record_function

from roga_domainbed.engine.lib.misc import balanced_weights
from roga_domainbed.errors import Failed, RogaError
from roga_domainbed.files import sync_folder
from roga_domainbed.input.minibatches import IndexSampler, seed_everything
from roga_domainbed.launch import lease
from roga_domainbed.launch.folders import OUTPUT
from roga_domainbed.networks.weights import first_weights
from roga_domainbed.optim.optimizer import SharpnessOptimizer
from roga_domainbed.results.records import RECORDS, SCORES, append_record, cut_records, mark_done
from roga_domainbed.seeds import derive
from roga_domainbed.trainer import averaging, calibration, checkpoint, distributed, familiarity, roga_notices
from roga_domainbed.trainer.batch_statistics import N_MINIBATCHES
from roga_domainbed.trainer.checkpoint import Checkpoint, write_durably
from roga_domainbed.trainer.evaluation import (
    EvaluatedSplit,
    evaluate,
    record_values,
    validation_loss,
    validation_splits,
)
from roga_domainbed.trainer.experiment import Experiment
from roga_domainbed.trainer.object_state import CannotRestore, ObjectState
from roga_domainbed.trainer.profile import Profile
from roga_domainbed.trainer.progress import RecordTable
from roga_domainbed.trainer.running_means import RunningMeans
from roga_domainbed.trainer.scores import add_scores
from roga_domainbed.trainer.stop import Paused, StopRequested, StopSignals
from roga_domainbed.trainer.trackers.tracking import Tracking
from roga_domainbed.upstream import defects


class TrainingLoop:
    """Trains an experiment and writes what comes of it into ``output_dir``.

    Args:
        experiment: newly built.
        output_dir: the run's folder.
        signals: what asks it to stop; a checkpoint is written then.
        start: the checkpoint to resume from; None starts with the first step.
    """

    def __init__(
        self,
        experiment: Experiment,
        output_dir: Path,
        signals: StopSignals,
        start: Checkpoint | None = None,
    ):
        self.experiment, self.output_dir, self.signals = experiment, output_dir, signals
        config, hparams = experiment.config, experiment.hparams
        smallest = min(len(split.in_split) for split in experiment.splits)
        self.steps_per_epoch = smallest / hparams["batch_size"]
        #: what each step reported since the last record
        self.running_means = RunningMeans()
        self.steps_done = 0
        self.record_due = False
        self._identity = checkpoint.data_identity(experiment)
        self._made_by = experiment.provenance()
        self._is_new = self._provenance_due = start is None
        self._schedule = checkpoint.Schedule(config.checkpoint_every)
        made_anew = defects.MADE_ANEW.get(config.algorithm, ()) if experiment.is_upstreams else ()
        self._state = ObjectState(experiment.algorithm, made_anew)
        #: of the weights; None for a run without
        self.averaging = averaging.of_run(experiment.algorithm, hparams)
        self._n_sentences = 0  # of the averaging, that are printed
        #: the scores of the validation data at the last record; None before the first of this process
        self._validation: list[EvaluatedSplit] | None = None
        if start is not None:
            self._resume_from(start)
        self.steps_done = distributed.start_together(experiment.algorithm, self._state, self.steps_done)
        self.table = RecordTable(experiment.names, config.test_envs, experiment.n_steps)

    def run(self) -> None:
        """Take every step that is left; write ``model.pkl`` and ``done`` after the last.

        Raises:
            StopRequested: a signal came; unless checkpoints are off, one was written.
            Paused: the step of ``--until`` has its record, and one was written.
        """
        with Tracking(self.experiment, self.output_dir) as self.tracking:
            self._run()

    def _run(self) -> None:
        print(self.experiment.input.sentence())
        if self.averaging is not None:
            print(self.averaging.sentence())
        for message in self.experiment.dropped:
            print(f"Left out: {message}")
        for message in self.experiment.notices():
            print(f"Notice: {message}.")
        if self._is_new:
            algorithm, hparams = self.experiment.algorithm, self.experiment.hparams
            for message in (*first_weights(algorithm), *roga_notices.before_training(algorithm, hparams)):
                print(f"Notice: {message}.")
        self._check_state()
        try:
            self._train()
            if not self.experiment.config.skip_model_save:
                self._save_trained()
        except Paused:
            raise
        except StopRequested:
            lease.require(self.output_dir)
            if not self._schedule.is_off:
                self._write_checkpoint()
            raise
        if self.averaging is not None and self.averaging.is_empty:
            print(
                "Notice: SWAD found no start, as the validation loss kept falling, and the model has the weights of "
                "the last step: train longer, or evaluate more often (--checkpoint_freq)."
            )
        with self.signals.held():
            lease.require(self.output_dir)
            mark_done(self.output_dir)
            sync_folder(self.output_dir)
            checkpoint.delete_all(self.output_dir)

    def _train(self) -> None:
        experiment = self.experiment
        steps = range(self.steps_done, experiment.n_steps)
        minibatches = self._minibatches(
            "minibatch", experiment.train_envs, lambda split: split.in_split, steps
        )
        unlabelled = self._unlabelled(steps)
        if self.record_due:
            self._record(self.steps_done - 1)
        self._pause_if_due()
        with Profile(experiment.config.profile, self.output_dir, len(steps), experiment.device) as profile:
            for step in steps:
                with record_function("step"):
                    self._update(step, minibatches, unlabelled)
                    recorded = self.record_due
                    if recorded:
                        self._record(step)
                        self._pause_if_due()
                    if self._schedule.is_due(step + 1, recorded) and step + 1 < experiment.n_steps:
                        with self.signals.held(), record_function("checkpoint"):
                            self._write_checkpoint()
                profile.step()

    def _update(self, step: int, minibatches: Iterator[list], unlabelled: Iterator[list] | None) -> None:
        experiment = self.experiment
        start = time.perf_counter()
        with record_function("data"):
            batches = next(minibatches)
            unlabelled_batches = None if unlabelled is None else [x for x, _ in next(unlabelled)]
        loaded = time.perf_counter()
        with self.signals.held():
            # Dropout and whatever else an algorithm draws depend on the step alone.
            seed_everything(derive(experiment.config.seed, "update", step))
            with (
                experiment.explained(),
                experiment.autocast(),
                experiment.learning_rate.at(step),
                record_function("update"),
            ):
                values = experiment.algorithm.update(batches, unlabelled_batches)
            if self.averaging is not None:
                self.averaging.add(step)
            clocks = {"data_time": loaded - start, "step_time": time.perf_counter() - start}
            self.running_means.add(step, {**clocks, **values})
            self.steps_done = step + 1
            self.record_due = step % experiment.checkpoint_freq == 0 or self.steps_done == experiment.n_steps

    def _pause_if_due(self) -> None:
        """Leave a run that has its record of the step of ``--until``, or of a later one, but not all its steps.

        A run that cannot write a checkpoint does not pause: it would have to start anew.

        Raises:
            Paused: with a checkpoint written.
        """
        until, every = self.experiment.config.until, self.experiment.checkpoint_freq
        recorded = (self.steps_done - 1) // every * every
        if until is None or recorded < until or self.steps_done == self.experiment.n_steps:
            return
        if not self._schedule.is_off:
            with self.signals.held():
                self._write_checkpoint()
        if not self._schedule.is_off:  # writing it may show that it cannot be restored
            raise Paused(f"after step {recorded}, as --until {until} says")

    def _record(self, step: int) -> None:
        experiment, config = self.experiment, self.experiment.config
        require_finite_steps(experiment.algorithm)
        record: dict[str, Any] = {"step": step, "epoch": step / self.steps_per_epoch}
        record.update(self.running_means.means())
        plain = None
        if self.averaging is not None:
            plain = self._evaluated(step)
            record |= self._of_plain_weights(step, plain)
        with self._averaged_weights() as are_there:
            evaluated = self._evaluated(step) if plain is None or are_there else plain
            record.update(record_values(evaluated))
            on_gpu = experiment.device.type == "cuda"
            record["mem_gb"] = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0
            record["hparams"], record["args"] = experiment.hparams, config.record_args()
            if self._provenance_due:
                record["provenance"] = self._made_by
            self._validation = validation_splits(evaluated, experiment.train_envs)
            of_detector = self._of_detector() if config.save_model_every_checkpoint else {}
            with self.signals.held():
                lease.require(self.output_dir)
                # A selection rule may choose this step: then the tables show its held-out environments.
                is_last = self.steps_done == experiment.n_steps
                self._store(
                    record, evaluated if is_last else [s for s in evaluated if s.env in config.test_envs]
                )
                self.running_means = RunningMeans()
                self.record_due = self._provenance_due = False
                self.table.print(record)
                for message in self._new_notices(record):
                    print(f"Notice: {message}.")
                if config.save_model_every_checkpoint:
                    save_model(experiment, self.output_dir / f"model_step{step}.pkl", of_detector)

    def _save_trained(self) -> None:
        with self._averaged_weights():
            if self._validation is None:  # the last record was made before this process resumed the run
                evaluated = self._evaluated(self.steps_done - 1)
                self._validation = validation_splits(evaluated, self.experiment.train_envs)
            of_detector = self._of_detector()
            with self.signals.held():
                lease.require(self.output_dir)
                save_model(self.experiment, self.output_dir / "model.pkl", of_detector)

    def _of_detector(self) -> dict[str, Any]:
        """What a model's file has of the model as it is now, if it tells real from fake; see ``save_model``."""
        experiment, found = self.experiment, {}
        fake = calibration.fake_of(experiment.dataset)
        if fake is None:
            return found
        with contextlib.suppress(ValueError):  # one class alone, or scores that are not finite
            found[calibration.KEY] = calibration.calibrate(self._validation, fake).as_plain()
        seed_everything(derive(experiment.config.seed, "familiarity"))
        known = familiarity.familiarity(experiment)
        if known is not None:
            found[familiarity.KEY] = known.as_plain()
        return found

    def _evaluated(self, step: int) -> list[EvaluatedSplit]:
        experiment = self.experiment
        # A method that draws random numbers to predict draws the same in a resumed run.
        seed_everything(derive(experiment.config.seed, "evaluate", step))
        with record_function("evaluation"):
            return evaluate(experiment, complete=self.steps_done == experiment.n_steps)

    def _new_notices(self, record: dict[str, Any]) -> list[str]:
        found = self.tracking.notices()
        if record["step"] == 0:
            found += roga_notices.at_first_record(record, self.experiment.hparams)
        if self.averaging is not None:
            found += self.averaging.sentences()[self._n_sentences :]
            self._n_sentences = len(self.averaging.sentences())
        return found

    # --- averaged weights ------------------------------------------------------------------------------

    def _of_plain_weights(self, step: int, evaluated: Sequence[EvaluatedSplit]) -> dict[str, Any]:
        """What the record of a run with averaging has of the weights as they are; the reasons for null are the same."""
        with self.signals.held():
            values = self.averaging.look(step, validation_loss(evaluated, self.experiment.train_envs))
        metrics = record_values(evaluated)
        return values | {f"plain_{key}": value for key, value in metrics.items() if key != "why_null"}

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[bool]:
        """Inside, the algorithm has the averaged weights; False where there are none."""
        if self.averaging is None:
            yield False
            return
        try:
            with self.signals.held():
                are_there = self.averaging.take_place()
            if are_there:
                with self.experiment.autocast():
                    self.averaging.estimate(self._images_for_statistics())
            yield are_there
        finally:
            with self.signals.held():
                self.averaging.put_back()

    def _images_for_statistics(self) -> Iterator[torch.Tensor]:
        """The same minibatches at every record: of all training environments together, drawn and augmented apart."""
        envs, size = self.experiment.train_envs, self.experiment.hparams["batch_size"]
        samplers = [self._sampler(env, self.experiment.splits[env].in_split, size, True) for env in envs]
        steps = range(N_MINIBATCHES)
        for batches in self.experiment.input.minibatches(envs, samplers, "batch statistics", steps):
            yield torch.cat([x for x, _ in batches])

    def _store(self, record: dict[str, Any], evaluated: list[EvaluatedSplit]) -> None:
        try:
            # The scores first: a step that has its record has its scores.
            path = self.output_dir / SCORES
            add_scores(path, evaluated, record["step"])
            path = self.output_dir / RECORDS
            append_record(self.output_dir, record)
        except OSError as error:
            raise Failed(
                f"cannot write {str(path)!r}: {error.strerror}; the records before are intact"
            ) from None

    # --- checkpoints -----------------------------------------------------------------------------------

    def _check_state(self) -> None:
        if self._state.problems and not self._schedule.is_off:
            print(
                f"Notice: no checkpoints of {self.experiment.config.algorithm}, so a killed run starts anew: "
                f"{'; '.join(self._state.problems)}."
            )
            self._schedule = checkpoint.Schedule(0)

    def _write_checkpoint(self) -> None:
        experiment, folder = self.experiment, self.output_dir
        lease.require(self.output_dir)
        if self.averaging is not None:
            self.averaging.put_back()  # whatever was interrupted
        with self._schedule.timed():
            require_finite_steps(experiment.algorithm)
            require_finite_weights(experiment.algorithm, self.steps_done - 1)
            captured = self._state.capture()
            if self._state.problems:
                self._check_state()
                return
            checkpoint.write(
                folder,
                Checkpoint(
                    settings=checkpoint.settings(
                        experiment.config.record_args(), experiment.hparams, experiment.host.name
                    ),
                    data=self._identity,
                    made_by=self._made_by,
                    steps_done=self.steps_done,
                    record_due=self.record_due,
                    records_bytes=_size(folder / RECORDS),
                    output_bytes=_size(folder / OUTPUT),
                    window=self.running_means.settled(),
                    algorithm=captured,
                    averaging=None if self.averaging is None else self.averaging.capture(),
                ),
            )

    def _resume_from(self, start: Checkpoint) -> None:
        folder = self.output_dir
        checkpoint.require_equal(start.data, self._identity, self.experiment.config.output_dir)
        try:
            self._state.restore(start.algorithm)
            if self.averaging is not None:
                self.averaging.restore(start.averaging)
                self._n_sentences = len(self.averaging.sentences())
            start.algorithm = start.averaging = None  # their tensors would stay in memory
            cut_records(folder, start.records_bytes)
        except CannotRestore as error:
            raise RogaError(
                f"the checkpoint in {str(folder)!r} cannot be restored: {error}; it was written by another version. "
                "Pass --overwrite to start anew"
            ) from None
        except ValueError as error:
            raise RogaError(
                f"{error}, which the checkpoint needs: put the file back, or pass --overwrite to start anew"
            ) from None
        self.steps_done, self.record_due, self.running_means = (
            start.steps_done,
            start.record_due,
            RunningMeans(start.window),
        )
        self._provenance_due = start.records_bytes == 0  # it goes into the first record
        one = {"processes": 1}  # the provenance of a run in one process does not have it
        changed = checkpoint.differences({**one, **start.made_by}, {**one, **self._made_by})
        print(f"Continued after {self.steps_done} of {self.experiment.n_steps} steps.")
        if changed:
            self._provenance_due = True
            print(
                f"Notice: the run was begun elsewhere, numbers may differ in their last digits: {'; '.join(changed)}."
            )

    # --- data ------------------------------------------------------------------------------------------

    def _minibatches(self, purpose: str, envs: list[int], part: Any, steps: range) -> Iterator[list]:
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
            size = distributed.minibatch_size(experiment, env)
            draws.append(self._sampler(env, indices, size, purpose == "minibatch"))
        return experiment.input.minibatches(envs, draws, purpose, steps)

    def _sampler(self, env: int, indices: list[int], size: int, is_labelled: bool) -> IndexSampler:
        weights = None
        if self.experiment.hparams["class_balanced"] and is_labelled:
            weights = balanced_weights(self.experiment.dataset[env].labels_of(indices))
        return IndexSampler(indices, size, weights)

    def _unlabelled(self, steps: range) -> Iterator[list] | None:
        experiment = self.experiment
        if experiment.config.task != "domain_adaptation":
            return None
        envs = [env for env in experiment.config.test_envs if experiment.splits[env].uda_split]
        if not envs:
            raise RogaError("--task domain_adaptation: no test environment has unlabelled samples to spare")
        return self._minibatches("unlabelled", envs, lambda split: split.uda_split, steps)


def require_finite_steps(algorithm: torch.nn.Module) -> None:
    """Read the numbers that no step on a GPU has waited for.

    Raises:
        NonFiniteError: a step was not finite; it names the step and the domain.
    """
    for value in vars(algorithm).values():
        if isinstance(value, SharpnessOptimizer):
            value.check_finite()


def require_finite_weights(algorithm: torch.nn.Module, step: int) -> None:
    """Keep weights that are not finite out of the checkpoints: the run stops, and resumes from the one before.

    Raises:
        Failed: a parameter is not finite.
    """
    bad = [name for name, weight in algorithm.named_parameters() if not torch.isfinite(weight).all()]
    if bad:
        raise Failed(
            f"step {step}: {len(bad)} parameters are not finite after it, {bad[0]} the first; training stopped. "
            "Lower the learning rate, or look at the data"
        )


def save_model(experiment: Experiment, path: Path, of_detector: dict[str, Any]) -> None:
    """Write ``model.pkl`` as upstream does, with plain Python values so that ``weights_only`` loading accepts it.

    Args:
        experiment: its algorithm has the weights.
        path: the file.
        of_detector: its calibration and what it is familiar with, by their keys, as plain values and tensors.

    Raises:
        RogaError: the file cannot be written; an earlier one of that name is intact then.
    """
    state = experiment.algorithm.state_dict()
    if experiment.is_upstreams:
        state = defects.saved_state(experiment.config.algorithm, state)
    content = {
        "args": experiment.config.record_args(),
        "model_input_shape": experiment.dataset.input_shape,
        "model_num_classes": experiment.dataset.num_classes,
        "model_class_names": experiment.dataset.class_names,
        "model_image_kind": experiment.image_kind,
        "model_num_domains": len(experiment.train_envs),
        "model_hparams": experiment.hparams,
        "model_dict": state,
        **of_detector,
    }
    write_durably(path, content)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
