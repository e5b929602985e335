"""A sweep as our trainer writes it, made of drawn scores: records, ``scores.parquet``, job files, markers."""

import hashlib
import json

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from roga_domainbed.metrics.binary import accuracy, auc

STEPS = (0, 40, 80, 99)
ENVS = ("DF", "F2F", "FS", "NT")
#: How far an algorithm's fakes lie above its reals in the end, in standard deviations.
SKILL = {"ERM": 1.4, "SAM": 1.7, "SAGM": 1.8, "RoGA": 1.9}


def draw(rng, skill, videos, frames):
    """Scores in (0, 1) of ``videos`` real and as many fake videos, labels and video names."""
    labels = np.repeat([0, 1], videos * frames)
    video = np.repeat(np.arange(2 * videos), frames)
    logits = rng.randn(2 * videos)[video] + 0.5 * rng.randn(len(video)) + skill * labels
    return 1 / (1 + np.exp(skill / 2 - logits)), labels, [f"v{number:03d}" for number in video]


def write_run(
    folder,
    args,
    *,
    steps=STEPS,
    videos=12,
    frames=3,
    scores=True,
    done=True,
    provenance=True,
    metrics=None,
    first_version=False,
):
    """One run folder; gives its path. The number of scores is the same for every run, the draws are not.

    With ``metrics`` every metric has this value, and there are no scores. With ``first_version`` the scores are those
    of the last step, without its number, as version 0.1.0 stored them.
    """
    text = json.dumps(args, sort_keys=True)
    run = folder / hashlib.md5(text.encode()).hexdigest()
    run.mkdir(parents=True)
    rng = np.random.RandomState(int(run.name[:7], 16))
    sharp = args["algorithm"] != "ERM"
    rows, lines = [], []
    for step in steps:
        progress = (1 + step) / (1 + steps[-1])
        record = {"step": step, "epoch": step / 10, "loss": 0.7 - 0.5 * progress, "mem_gb": 0.0}
        record |= {"step_time": 0.1 + 0.1 * sharp + 0.01 * rng.rand(), "data_time": 0.001}
        if sharp:
            record |= {"perturbed_loss": 0.9 - 0.5 * progress, "grad_norm": 2.0 - progress}
        if args["algorithm"] == "RoGA":
            record |= {
                "cosine": 0.2 + 0.5 * progress,
                **{f"alpha_ratio_{i}": 0.004 / (1 + i) for i in range(3)},
            }
        rows = [] if first_version else rows
        for env, name in enumerate(ENVS):
            harder = 0.6 if env in args["test_envs"] else 0.0
            for split in ("in", "out"):
                if metrics is not None:
                    record |= {f"env{env}_{split}_{name}": metrics for name in ("acc", "auc")}
                    continue
                skill = (SKILL.get(args["algorithm"], 1.5) - harder) * progress
                values, labels, names = draw(rng, skill, videos, frames)
                record[f"env{env}_{split}_acc"] = accuracy(values, labels)
                record[f"env{env}_{split}_auc"] = auc(values, labels)
                record[f"env{env}_{split}_n"] = len(labels)
                rows += [
                    (step, env, name, split, i, video, f"{name}/{video}/{i}.png", int(label), float(value))
                    for i, (value, label, video) in enumerate(zip(values, labels, names, strict=True))
                ]
        record["hparams"] = {"lr": 10.0 ** (args["hparams_seed"] - 5), "batch_size": 8}
        record["hparams"] |= {"rho": 0.05} if sharp else {}
        record["args"] = {**args, "output_dir": str(run)}
        if step == 0 and provenance:
            record["provenance"] = {
                "roga_domainbed": "0.1.0", "backend": "engine", "backend_commit": None, "split": "official",
                "device": "cpu", "environments": list(ENVS), "versions": {"PyTorch": "2.14.1", "Python": "3.11.7"},
            }  # fmt: skip
        lines.append(json.dumps(record, sort_keys=True))
    (run / "results.jsonl").write_text("".join(line + "\n" for line in lines))
    if scores and rows:
        columns = list(zip(*rows, strict=True))
        names = ("step", "env", "env_name", "split", "index", "video", "path", "label", "score")
        table = pa.table(dict(zip(names, map(list, columns), strict=True)))
        parquet.write_table(table.drop_columns("step") if first_version else table, run / "scores.parquet")
    if done:
        (run / "done").write_text("done")
    return run


def arguments(dataset="SynthFake", algorithm="ERM", test_envs=(0,), trial=0, hparams_seed=0, **more):
    """The arguments of a run, as its records carry them."""
    return {
        "algorithm": algorithm, "checkpoint_freq": 40, "data_dir": "data", "dataset": dataset, "hparams": None,
        "hparams_seed": hparams_seed, "seed": trial, "skip_model_save": True, "steps": 100,
        "task": "domain_generalization", "test_envs": list(test_envs), "trial_seed": trial, **more,
    }  # fmt: skip


def write_sweep(
    folder, *, algorithms=tuple(SKILL), envs=range(4), trials=1, hparams=1, dataset="SynthFake", **kwargs
):
    """All cells of a leave-one-domain-out sweep."""
    for algorithm in algorithms:
        for env in envs:
            for trial in range(trials):
                for seed in range(hparams):
                    write_run(folder, arguments(dataset, algorithm, (env,), trial, seed), **kwargs)
    return folder
