r"""Check this installation against numbers that are not its own; a few minutes on two cores.

  $ roga-domainbed verify
  ok       seeds          10 seeds equal DomainBed's (0.0 s)
  ok       splits         4 splits equal DomainBed's, to the index (0.0 s)
  …
  skipped  colored-mnist  needs MNIST's four files: --mnist FOLDER, or the package mnist-dir (0.0 s)

Seeds, splits and draws of hyper-parameters were recorded from an unmodified DomainBed; metrics are compared with
scikit-learn; RoGA must reduce to SAM and to its base optimizer where it should; a training must repeat itself; ERM on
SynthFake and on coloured digits must end inside bands. With --data_dir and --long, ERM on PACS, VLCS and FFPP is
trained in full, which needs a GPU and hours, and compared with published numbers. A check that cannot be made is
skipped and says why. The exit status is 1 if one failed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from roga_domainbed.errors import Problems, unknown_name

#: Check → function that makes it; imported when it is made.
CHECKS = {
    "seeds": "roga_domainbed.verify.oracles:seeds",
    "splits": "roga_domainbed.verify.oracles:splits",
    "hparams": "roga_domainbed.verify.oracles:hparams",
    "metrics": "roga_domainbed.verify.identities:metrics",
    "update-rules": "roga_domainbed.verify.identities:update_rules",
    "repeatable": "roga_domainbed.verify.trainings:repeatable",
    "synthfake": "roga_domainbed.verify.trainings:synthfake",
    "colored-mnist": "roga_domainbed.verify.trainings:colored_mnist",
    "pacs": "roga_domainbed.verify.trainings:pacs",
    "vlcs": "roga_domainbed.verify.trainings:vlcs",
    "ffpp": "roga_domainbed.verify.trainings:ffpp",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which checks, and where data is."""
    parser.add_argument("--only", nargs="+", metavar="CHECK", help=f"some of: {', '.join(CHECKS)}")
    parser.add_argument("--data_dir", help="folder of your datasets, for pacs, vlcs and ffpp")
    parser.add_argument("--mnist", metavar="FOLDER", help="has MNIST's four idx files")
    parser.add_argument("--long", action="store_true", help="also the trainings that take hours")


def run(args: argparse.Namespace) -> int:
    """Print a line a check; 1 if any failed."""
    problems = Problems()
    for name in args.only or ():
        if name not in CHECKS:
            problems.add(unknown_name("check", name, CHECKS))
    for flag in ("data_dir", "mnist"):
        value = getattr(args, flag)
        if value is not None and not Path(value).is_dir():
            problems.add(f"--{flag} {value!r} is not a folder")
    problems.check()
    from roga_domainbed.catalog.registry import load
    from roga_domainbed.verify.checks import Check, Options, make

    counts = dict.fromkeys(("ok", "failed", "skipped"), 0)
    with tempfile.TemporaryDirectory(prefix="roga-domainbed-verify-") as scratch:
        options = Options(Path(scratch), args.data_dir, args.mnist, args.long)
        checks = (
            Check(name, load(target)) for name, target in CHECKS.items() if name in (args.only or CHECKS)
        )
        for result in make(checks, options):
            counts[result.state] += 1
            print(
                f"{result.state:<7}  {result.name:<13}  {result.detail} ({result.seconds:.1f} s)", flush=True
            )
    print(f"\n{counts['ok']} ok, {counts['failed']} failed, {counts['skipped']} skipped.")
    return int(counts["failed"] > 0)
