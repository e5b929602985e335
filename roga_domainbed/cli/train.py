"""Train one model and write its records.

Flags, defaults and record keys are those of DomainBed's train script. Records also hold AUC, AP, EER and more for
each split, by frame and by video. Random numbers depend only on the seeds and the step, so --n_workers changes no
result.

    $ roga-domainbed train --data_dir data --dataset SynthFake --algorithm RoGA --test_envs 3 --steps 300
    auc in/out in %, test environments in brackets
      step      loss      DF           F2F          FS          [NT]       left
       300    0.2104   97.1/95.8    94.0/92.9    98.2/97.5    71.3/69.9      0:00

Files in --output_dir: results.jsonl (one record a line), scores.parquet (scores of samples at every evaluated step),
out.txt, err.txt, train.lock, model.pkl and, at the end, done; until then checkpoint_<steps>.pt. The folder must be new,
empty or that of a run. If a run is killed, the same command resumes it, with the same results as an unbroken run.
SIGTERM, SIGUSR1, SIGUSR2 and Ctrl-C write a checkpoint first; the exit status is then 75 (Ctrl-C: 130).

Words such as in, out, uda and hparams_seed: the glossary in docs/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys

from roga_domainbed.catalog.hparams import parse_overrides
from roga_domainbed.cli import arguments, data_options
from roga_domainbed.cli.lasting import lasting_output
from roga_domainbed.errors import RogaError
from roga_domainbed.trainer.config import TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Upstream's flags, then ours."""
    parser.usage = "%(prog)s --dataset NAME --algorithm NAME [options]"
    arguments.add_arguments(parser, TrainConfig)
    data_options.add_arguments(parser)
    data_options.add_share_arguments(parser)
    data_options.add_leakage_argument(parser)
    parser.set_defaults(**{name: getattr(TrainConfig(), name) for name in data_options.NAMES})
    parser.add_argument(
        "--weights",
        help="file with the backbone's first weights (.pth or .safetensors); the same as the hparam 'weights'",
    )
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="check every image first and train without those that cannot be read; the first record counts them",
    )


def run(args: argparse.Namespace) -> int:
    """Train; 0 on success, 75 where a signal stopped it."""
    from roga_domainbed.trainer.run import train  # torch: not needed for --help
    from roga_domainbed.trainer.stop import Stopped

    values = vars(args)
    values["hparams"] = _with_weights(values["hparams"], values.pop("weights"))
    try:
        with lasting_output():
            train(TrainConfig(**values))
    except Stopped as stopped:
        print(f"roga-domainbed train: {stopped}", file=sys.stderr)
        return Stopped.STATUS
    return 0


def _with_weights(hparams: str | None, weights: str | None) -> str | None:
    """``--hparams`` with ``--weights`` among them: records and jobs have it in one place."""
    if weights is None:
        return hparams
    overrides = parse_overrides(hparams)
    if overrides.get("weights", weights) != weights:
        raise RogaError(
            f"--weights {weights!r} and hparam 'weights' {overrides['weights']!r} differ: give one"
        )
    return json.dumps({**overrides, "weights": weights})
