"""Train one model and write its records.

Flags, defaults and record keys are those of DomainBed's train script; records also carry AUC, AP, EER and more of
every split, of frames and of videos. Everything random depends on the seeds and the step alone, so --n_workers
changes no number.

    $ roga-domainbed train --data_dir data --dataset SynthFake --algorithm RoGA --test_envs 3 --steps 300
    auc in/out in %, test environments in brackets
      step      loss      DF           F2F          FS          [NT]       left
       300    0.2104   97.1/95.8    94.0/92.9    98.2/97.5    71.3/69.9      0:00

Files in --output_dir: results.jsonl (one record a line), scores.parquet (what the trained model says of every
sample), out.txt, err.txt, model.pkl and, at the end, done; until then checkpoint_<steps>.pt. The same command goes on
with a run that was killed, with the same numbers as if it had not been. SIGTERM, SIGUSR1 and Ctrl-C write a checkpoint
first; the exit status is then 75 (Ctrl-C: 130).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from roga_domainbed.catalog.hparams import parse_overrides
from roga_domainbed.cli import data_options
from roga_domainbed.errors import RogaError
from roga_domainbed.trainer.config import SPLIT_MODES, TASKS, TrainConfig

_DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(TrainConfig)
    if field.default is not dataclasses.MISSING
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Upstream's flags, then ours."""

    def add(name: str, help_text: str, **kwargs: object) -> None:
        if kwargs.get("action") != "store_true":
            kwargs.setdefault("default", _DEFAULTS[name])
        parser.add_argument(f"--{name}", help=help_text, **kwargs)

    add("data_dir", "folder that contains the dataset's folder", type=str)
    add("dataset", "registered name (default %(default)s); 'roga-domainbed list' shows them", type=str)
    add("algorithm", "registered name (default %(default)s)", type=str)
    add("task", f"{' or '.join(TASKS)} (default the first)", type=str)
    add("hparams", "JSON object that overrides hyper-parameters, such as '{\"lr\": 0.001}'", type=str)
    add("hparams_seed", "0: defaults; otherwise seeds the random hyper-parameters", type=int)
    add("trial_seed", "seeds the splits and, with hparams_seed, random hyper-parameters", type=int)
    add("seed", "seeds everything else", type=int)
    add("steps", "training steps (default: the dataset's)", type=int)
    add("checkpoint_freq", "steps between records (default: the dataset's)", type=int)
    data_options.add_test_envs_argument(parser)
    add("output_dir", "folder of the run (default %(default)s)", type=str)
    add("holdout_fraction", "share of the out-split (default %(default)s)", type=float)
    add("uda_holdout_fraction", "share of unlabelled test-environment samples", type=float)
    add("skip_model_save", "write no model file", action="store_true")
    add("save_model_every_checkpoint", "write model_step<N>.pkl at every record", action="store_true")
    add(
        "split",
        f"{', '.join(SPLIT_MODES)}: official parts, cut by recording and identity, or DomainBed's cut by image "
        "(default: official where the dataset has a manifest, frame otherwise)",
        type=str,
    )
    data_options.add_arguments(parser)
    data_options.add_leakage_argument(parser)
    parser.set_defaults(**{name: _DEFAULTS[name] for name in data_options.NAMES})
    add("n_workers", "how many read images ahead (default: the dataset's, at most the threads)", type=int)
    add(
        "input",
        "fast: images decoded once, minibatches augmented at once; exact: the dataset's own code for each image "
        "(default %(default)s, where the dataset allows it)",
        type=str,
    )
    add(
        "cache",
        "auto: decoded images stay in memory if a quarter of what is free holds them; off: decoded at each access; "
        "else a folder for a packed file of them, shared by the jobs of a machine (default %(default)s)",
        type=str,
    )
    add(
        "precision",
        "fp32, bf16 (autocast), or auto: bf16 on GPUs that have it (default %(default)s)",
        type=str,
    )
    add(
        "compile",
        "compile the network with torch.compile; the first steps wait for it",
        action="store_true",
    )
    add("profile", "print where the time of ten steps goes, and write a trace of them", action="store_true")
    add("eval_every", "steps between evaluations, and so records; wins over --checkpoint_freq", type=int)
    add(
        "eval_max_per_env",
        "evaluate at most so many samples of each split, the same ones each time; the last record has all",
        type=int,
    )
    add(
        "eval_parts",
        "all, or needed: what is trained on is evaluated in the last record only; no selection rule reads it "
        "(default %(default)s)",
        type=str,
    )
    parser.add_argument(
        "--weights",
        help="file with the backbone's first weights (.pth or .safetensors); the same as the hparam 'weights'",
    )
    add(
        "checkpoint_every",
        "steps between states to go on from, 0 for none (default: at a record, or a minute after the last, taking at "
        "most one percent of the time)",
        type=int,
    )
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="look at every image first and train without those that cannot be read; the first record counts them",
    )
    add("overwrite", "replace a run that --output_dir already holds, finished or not", action="store_true")


def run(args: argparse.Namespace) -> int:
    """Train; 0 on success, 75 where SIGTERM or SIGUSR1 stopped it."""
    from roga_domainbed.trainer.run import train  # torch: not needed for --help
    from roga_domainbed.trainer.stop import Stopped

    values = vars(args)
    values["hparams"] = _with_weights(values["hparams"], values.pop("weights"))
    try:
        train(TrainConfig(**values))
    except Stopped as stopped:
        print(f"roga-domainbed train: {stopped}", file=sys.stderr)
        return Stopped.STATUS
    return 0


def _with_weights(hparams: str | None, weights: str | None) -> str | None:
    """``--hparams`` with ``--weights`` among them, so that records and jobs know one way to say it."""
    if weights is None:
        return hparams
    overrides = parse_overrides(hparams)
    if overrides.get("weights", weights) != weights:
        raise RogaError(
            f"--weights {weights!r} and hparam 'weights' {overrides['weights']!r} differ: give one"
        )
    return json.dumps({**overrides, "weights": weights})
