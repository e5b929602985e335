"""One training run, start to end: the loop, its records and its model."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roga_domainbed import bridge
from roga_domainbed.backend import Host, host
from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.engine.lib.misc import Tee, balanced_weights
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.records import DONE, RECORDS, append_record, is_done, mark_done
from roga_domainbed.seeds import derive
from roga_domainbed.trainer import upstream_defects
from roga_domainbed.trainer.config import TrainConfig, require_finite, test_env_problems
from roga_domainbed.trainer.evaluation import score_split, split_metrics
from roga_domainbed.trainer.hyperparameters import resolve_hparams
from roga_domainbed.trainer.memory import keep_freed_memory
from roga_domainbed.trainer.minibatches import (
    IndexDraw,
    seed_everything,
    training_minibatches,
)
from roga_domainbed.trainer.progress import CheckpointTable
from roga_domainbed.trainer.provenance import environment_versions, provenance
from roga_domainbed.trainer.splits import split_environments


def train(config: TrainConfig) -> Path:
    """Train one model and write ``results.jsonl``, ``out.txt``, ``err.txt``, ``model.pkl`` and ``done``.

    Args:
        config: the arguments; see ``TrainConfig``.

    Returns:
        The output folder.

    Raises:
        RogaError: for everything the user can put right, all of it at once where it can be seen before the
            data is loaded.
    """
    problems = Problems()
    config.check(problems)
    bridge.register()
    hparams = resolve_hparams(config, host(), problems)
    output_dir = Path(config.output_dir)
    if not config.overwrite and (output_dir / RECORDS).exists():
        state = "a finished run" if is_done(output_dir) else "records of an unfinished run"
        problems.add(
            f"--output_dir {config.output_dir!r} holds {state}; choose another, or pass --overwrite to replace it"
        )
    problems.check()
    _make_folder(output_dir)
    run = _Run(config, hparams, host())
    # Only now, when nothing but the training itself can fail, does an earlier run give way.
    _clear_folder(output_dir)
    with Tee(output_dir / "out.txt"), Tee(output_dir / "err.txt", channel="stderr") as err:
        _print_header(config, hparams)
        try:
            run.train()
        except RogaError as error:
            err.file.write(f"error: {error}\n")  # the caller prints it
            raise
        except Exception:
            err.file.write(traceback.format_exc())
            raise
    return output_dir


class _Run:
    """The parts of a run, built in the order in which they can fail."""

    def __init__(self, config: TrainConfig, hparams: dict[str, Any], host: Host):
        self.config, self.hparams, self.host = config, hparams, host
        self.output_dir = Path(config.output_dir)
        keep_freed_memory()
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

        # Some datasets of upstream draw their content from the global generators.
        seed_everything(derive(config.seed, "dataset"))
        dataset_class = host.datasets.get_dataset_class(config.dataset)
        self.dataset = dataset_class(config.data_dir, config.test_envs, hparams)
        self.names = [str(name) for name in dataset_class.ENVIRONMENTS or range(len(self.dataset))]
        self._check_environments()
        self.split_mode, self.splits = split_environments(
            self.dataset,
            config.split,
            config.test_envs,
            config.trial_seed,
            config.holdout_fraction,
            config.uda_holdout_fraction,
        )
        self.n_workers = config.n_workers
        if self.n_workers is None:
            # A sweep gives each job its share of the cores as threads: as many readers, not more.
            self.n_workers = min(self.dataset.N_WORKERS, torch.get_num_threads())
        self.n_steps = config.steps or self.dataset.N_STEPS
        self.checkpoint_freq = config.checkpoint_freq or self.dataset.CHECKPOINT_FREQ
        self.train_envs = [i for i in range(len(self.dataset)) if i not in config.test_envs]

        _check_weights(hparams, self.dataset.input_shape)
        self.defects = upstream_defects.Job(config.algorithm, hparams, len(self.train_envs))
        if self._is_upstreams():
            problems = Problems()
            for message in upstream_defects.refusals(self.defects):
                problems.add(message)
            problems.check()
        seed_everything(derive(config.seed, "weights"))
        algorithm_class = host.algorithms.get_algorithm_class(config.algorithm)
        with self._explained():
            self.algorithm = algorithm_class(
                self.dataset.input_shape, self.dataset.num_classes, len(self.train_envs), hparams
            )
        self.algorithm.to(self.device)

    def _is_upstreams(self) -> bool:
        return self.host.name == "upstream" and not ALGORITHMS.get(self.config.algorithm).plugin

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Inside, an error that is a known defect of upstream's algorithm becomes a sentence."""
        try:
            yield
        except Exception as error:
            sentence = upstream_defects.explain(self.defects, error) if self._is_upstreams() else None
            if sentence is None:
                raise
            raise RogaError(sentence) from error

    def _check_environments(self) -> None:
        if len(self.names) != len(self.dataset):
            raise RogaError(
                f"{self.config.dataset} has {len(self.dataset)} environments on disk and {len(self.names)} names: "
                f"{', '.join(self.names)}"
            )
        problems = Problems()
        for message in test_env_problems(self.config.test_envs, tuple(self.names)):
            problems.add(message)
        problems.check()

    def train(self) -> None:
        config = self.config
        if self._is_upstreams():
            for message in upstream_defects.notices(self.defects):
                print(f"Notice: {message}.")
        minibatches = self._minibatches("minibatch", self.train_envs, lambda split: split.in_split)
        unlabelled = self._unlabelled()
        table = CheckpointTable(self.names, config.test_envs, self.n_steps)
        steps_per_epoch = min(len(split.in_split) for split in self.splits) / self.hparams["batch_size"]
        window: dict[str, list[float]] = {}
        for step in range(self.n_steps):
            start = time.perf_counter()
            batches = next(minibatches)
            unlabelled_batches = None if unlabelled is None else [x for x, _ in next(unlabelled)]
            loaded = time.perf_counter()
            # Dropout and whatever else an algorithm draws depend on the step alone.
            seed_everything(derive(config.seed, "update", step))
            with self._explained():
                values = self.algorithm.update(batches, unlabelled_batches)
            require_finite(values, step)
            window.setdefault("data_time", []).append(loaded - start)
            window.setdefault("step_time", []).append(time.perf_counter() - start)
            for name, value in values.items():
                window.setdefault(name, []).append(value)
            if step % self.checkpoint_freq == 0 or step == self.n_steps - 1:
                record = {"step": step, "epoch": step / steps_per_epoch}
                record.update({name: float(np.mean(numbers)) for name, numbers in window.items()})
                record.update(self._evaluate())
                record["mem_gb"] = (
                    torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else 0.0
                )
                record["hparams"], record["args"] = self.hparams, config.record_args()
                if step == 0:
                    record["provenance"] = provenance(self.host, self.split_mode, self.device, self.names)
                append_record(self.output_dir, record)
                table.print(record)
                window = {}
                if config.save_model_every_checkpoint:
                    self._save(f"model_step{step}.pkl")
        if not config.skip_model_save:
            self._save("model.pkl")
        mark_done(self.output_dir)

    def _minibatches(self, purpose: str, envs: list[int], part: Any) -> Iterator[list]:
        batch_size = self.hparams["batch_size"]
        draws = []
        for env in envs:
            indices = part(self.splits[env])
            if len(indices) < batch_size:
                print(
                    f"Notice: environment {self.names[env]} has {len(indices)} samples for a minibatch of "
                    f"{batch_size}: samples repeat within a minibatch."
                )
            weights = None
            if self.hparams["class_balanced"] and purpose == "minibatch":
                weights = balanced_weights(self._labels(env, indices))
            draws.append(IndexDraw(indices, batch_size, weights))
        return training_minibatches(
            [self.dataset[env] for env in envs],
            draws,
            seed=self.config.seed,
            purpose=purpose,
            steps=range(self.n_steps),
            n_workers=self.n_workers,
            device=self.device,
        )

    def _unlabelled(self) -> Iterator[list] | None:
        if self.config.task != "domain_adaptation":
            return None
        envs = [env for env in self.config.test_envs if self.splits[env].uda_split]
        if not envs:
            raise RogaError("--task domain_adaptation: no test environment has unlabelled samples to spare")
        return self._minibatches("unlabelled", envs, lambda split: split.uda_split)

    def _labels(self, env: int, indices: list[int]) -> np.ndarray:
        environment = self.dataset[env]
        if hasattr(environment, "labels"):
            return np.asarray(environment.labels)[indices]
        return np.array([int(environment[i][1]) for i in indices])

    def _evaluate(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        why_null: dict[str, str] = {}
        for env, split in enumerate(self.splits):
            for part, indices in split.named():
                scores = score_split(
                    self.algorithm,
                    self.dataset[env],
                    indices,
                    seed=self.config.seed,
                    n_workers=self.n_workers,
                    device=self.device,
                )
                metrics = split_metrics(scores)
                prefix = f"env{env}_{part}_"
                values.update({prefix + name: value for name, value in metrics.values.items()})
                why_null.update({prefix + name: reason for name, reason in metrics.why_null.items()})
        if why_null:
            values["why_null"] = why_null
        return values

    def _save(self, name: str) -> None:
        """Write upstream's checkpoint, with plain Python values so that ``weights_only`` loading accepts it."""
        path = self.output_dir / name
        partial = path.with_suffix(".part")
        state = self.algorithm.state_dict()
        if self._is_upstreams():
            state = upstream_defects.saved_state(self.config.algorithm, state)
        checkpoint = {
            "args": self.config.record_args(),
            "model_input_shape": self.dataset.input_shape,
            "model_num_classes": self.dataset.num_classes,
            "model_num_domains": len(self.train_envs),
            "model_hparams": self.hparams,
            "model_dict": state,
        }
        try:
            torch.save(checkpoint, partial)
            partial.replace(path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            partial.unlink(missing_ok=True)
            raise RogaError(f"cannot write {str(path)!r}: {str(error).splitlines()[0]}") from None


def _check_weights(hparams: dict[str, Any], input_shape: tuple[int, ...]) -> None:
    """Refuse a file of weights that no network would read."""
    if hparams.get("weights") and not hparams.get("backbone") and tuple(input_shape[1:]) != (224, 224):
        raise RogaError(
            f"hparam 'weights' is for a backbone or for images of 224x224; the network for inputs of shape "
            f"{tuple(input_shape)} starts from random weights: drop it, or name a backbone"
        )


def _make_folder(output_dir: Path) -> None:
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output_dir):
            pass
    except OSError as error:
        raise RogaError(f"--output_dir {str(output_dir)!r} cannot be written: {error.strerror}") from None


def _clear_folder(output_dir: Path) -> None:
    for pattern in (DONE, RECORDS, "out.txt", "err.txt", "model*.pkl", "*.part"):
        for path in output_dir.glob(pattern):
            path.unlink()


def _print_header(config: TrainConfig, hparams: dict[str, Any]) -> None:
    print("Command:\n\t" + shlex.join(sys.argv))
    for title, values in (
        ("Environment", environment_versions()),
        ("Args", dict(sorted(config.record_args().items()))),
        ("HParams", dict(sorted(hparams.items()))),
    ):
        print(f"{title}:")
        for name, value in values.items():
            print(f"\t{name}: {value}")
