"""Leave-one-domain-out on generated faces: a sweep of ERM, SAM, SAGM and RoGA, its tables, report, and a verdict.

The demo generates the faces (SynthFake), so it downloads nothing. It holds out each of four manipulations in turn and
selects models on the validation parts of the training domains. All four algorithms have the same learning rate, with
a warm-up and a cosine schedule, the same minibatches and steps; SAM, SAGM and RoGA have the same radius. On one machine
the same --seed gives the same tables, digit for digit. At the end one of the models judges three clips of a person whom
no training saw: a real one, a forgery of a kind that it was trained on, and one of the kind that was held out.

The demo runs ordinary commands and prints each before it starts, so that you can repeat them with other options:

    $ roga-domainbed sweep launch --preset demo --data_dir roga-demo/data --output_dir roga-demo/sweep ...
    $ roga-domainbed collect-results --input_dir roga-demo/sweep --metric auc --select iid --intervals
    $ roga-domainbed report --input_dir roga-demo/sweep --output roga-demo/report.html --metric auc
    $ roga-domainbed predict roga-demo/sweep/... roga-demo/unseen --frames --no_detect --explain roga-demo/verdict.html
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
from pathlib import Path

from roga_domainbed.catalog.values import Allowed, arguments_of, check_arguments
from roga_domainbed.cli.own_command import own_command
from roga_domainbed.errors import Problems
from roga_domainbed.launch import MOST_WORKERS
from roga_domainbed.launch.folders import holds_no
from roga_domainbed.sweep.folder import jobs_by_their_files, sweep_folder_problem
from roga_domainbed.sweep.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, how much, and with what seed."""
    parser.add_argument(
        "--output_dir", default="roga-demo", help="folder for everything (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seeds the generated faces (default 0)")
    parser.add_argument("--n_trials", type=int, default=1, help="repetitions with other seeds (default 1)")
    parser.add_argument("--steps", type=int, default=300, help="training steps of a model (default 300)")
    parser.add_argument("--n_workers", type=int, help="trainings at a time (default: the cores, at most 8)")


def run(args: argparse.Namespace) -> int:
    """Generate the faces, run the sweep, print the tables, write the report, judge three clips."""
    problems = Problems()
    allowed = {name: arguments_of(Plan)[name] for name in ("n_trials", "steps")}
    allowed |= {
        "seed": Allowed(kind=int, at_least=0, below=2**32),
        "n_workers": Allowed(kind=int, at_least=1, at_most=MOST_WORKERS),
    }
    check_arguments(vars(args), allowed, problems)
    problem = _folder_problem(Path(args.output_dir))
    if problem is not None:
        problems.add(f"--output_dir {args.output_dir!r} {problem}")
    problems.check()
    from datasets_ext.synthfake.generate import generate

    root = Path(args.output_dir)
    print(f"Generating faces in {root / 'data'} …", flush=True)
    generate(root / "data", seed=args.seed)

    sweep_dir = str(root / "sweep")
    # One thread a training: sums then add up in one order whatever the number of cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    status = own_command(
        "sweep launch",
        {
            "--preset": "demo",
            "--data_dir": str(root / "data"),
            "--output_dir": sweep_dir,
            "--n_trials": args.n_trials,
            "--steps": args.steps,
            "--checkpoint_freq": max(1, args.steps // 2),
            # The preset's, with a warm-up that fits into any number of steps.
            "--hparams": json.dumps({"lr_schedule": "cosine", "warmup_steps": args.steps // 4}),
            **({} if args.n_workers is None else {"--n_workers": args.n_workers}),
        },
        "--retry",  # so that the same command finishes a demo that was interrupted
        "--skip_confirmation",
    )
    if status != 0:
        return status
    for metric in ("acc", "auc"):
        status = own_command(
            "collect-results",
            {"--input_dir": sweep_dir, "--metric": metric, "--select": "iid"},
            "--intervals",
        )
        if status != 0:
            return status
    return _report(sweep_dir, root / "report.html") or _verdict(sweep_dir, root / "unseen", args.seed)


def _folder_problem(root: Path) -> str | None:
    """Why the demo may not write in ``root``, as the end of a sentence; None if it may: it made the folder, or will."""
    if not root.exists():
        return None
    if not root.is_dir():
        return "is not a folder"
    names = {path.name for path in root.iterdir()}
    launched = (root / "sweep").is_dir() and any((root / "sweep").iterdir())
    if launched and sweep_folder_problem(root / "sweep") is None:
        return None
    faces = (root / "data").iterdir() if (root / "data").is_dir() else ()
    if names <= {"data"} and all("SynthFake" in path.name for path in faces):
        return None  # ended while it made the faces
    return holds_no("demo", names)


def _report(sweep_dir: str, output: Path) -> int:
    """The HTML report where its libraries are installed; otherwise the line that installs them."""
    options = {"--input_dir": sweep_dir, "--output": str(output), "--metric": "auc"}
    if _are_there("matplotlib", "jinja2"):
        return own_command("report", options)
    command = shlex.join([word for option in options.items() for word in option])
    print(f"\nFor the HTML report: pip install 'roga-domainbed[report]'; roga-domainbed report {command}")
    return 0


def _are_there(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


def _verdict(sweep_dir: str, unseen: Path, seed: int) -> int:
    """What RoGA without NT says of clips of a person who is in no environment; with heat maps if it can draw."""
    from datasets_ext.synthfake.generate import write_clips

    write_clips(unseen, ("DF", "NT"), seed)
    print(
        f"\nThree clips of a person whom no training saw, in {unseen}: a real one, a forgery of a kind that the model\n"
        "was trained on (DF), and one of the kind that was held out (NT)."
    )
    jobs = jobs_by_their_files(sweep_dir)[0]
    model = next(job for job in jobs if job.row == "RoGA" and job.train_args["test_envs"] == [3])
    words = [model.output_dir, str(unseen), "--frames", "--no_detect"]
    explained = [*words, "--explain", str(unseen.with_name("verdict.html"))]
    if _are_there("matplotlib", "jinja2", "pytorch_grad_cam"):
        return own_command("predict", {}, *explained)
    status = own_command("predict", {}, *words)
    command = shlex.join(explained)
    print(
        f"\nFor a page with heat maps: pip install 'roga-domainbed[explain]'; roga-domainbed predict {command}"
    )
    return status
