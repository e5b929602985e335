"""One sweep, two tools: DomainBed's scripts without the plugin, and ours on the checkout and on the engine."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.upstream

# Debug28 needs no data, and its 16 images no larger minibatch than 8.
JOBS = "--datasets Debug28 --algorithms ERM --n_trials 1 --single_test_envs --steps 3 --data_dir none".split()
JOBS += ["--skip_confirmation", "--hparams", '{"batch_size": 8}']


@pytest.fixture(scope="module")
def engine_cli(run_cli):
    def run(*arguments, **kwargs):
        return run_cli(*arguments, env={"DOMAINBED_HOME": ""}, **kwargs)

    return run


@pytest.fixture(scope="module")
def sweeps(run_stock, engine_cli, tmp_path_factory):
    """Who began → a sweep of three jobs that the other tool then made one of six: folder, records before, output."""
    folder = tmp_path_factory.mktemp("sweeps")
    (folder / "none").mkdir()  # the data folder of JOBS: ours looks for it, and Debug28 does not need it

    def stock(n_hparams, out):
        arguments = ["--n_hparams", n_hparams, "--output_dir", out, "--command_launcher", "local"]
        return run_stock("sweep", "launch", *JOBS, *arguments)

    def ours(n_hparams, out):
        arguments = ["--n_hparams", n_hparams, "--output_dir", out]
        return engine_cli("sweep", "launch", *JOBS, *arguments, cwd=folder)

    found = {}
    for who, begin, go_on in (("upstream", stock, ours), ("us", ours, stock)):
        out = folder / f"begun by {who}"
        begin(1, out)
        before = {path: path.stat().st_mtime_ns for path in out.glob("*/results.jsonl")}
        found[who] = out, before, go_on(2, out)
    return found


@pytest.mark.parametrize("begun_by", ["upstream", "us"])
def test_the_other_tool_continues_a_sweep_and_both_collectors_print_the_same(
    begun_by, sweeps, run_stock, engine_cli
):
    out, before, done = sweeps[begun_by]
    assert len(before) == 3
    assert "6 jobs: 3 done, 0 incomplete, 3 not launched." in done.stdout
    assert len(list(out.glob("*/done"))) == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before  # what was done stays untouched
    theirs = run_stock("collect_results", "--input_dir", out).stdout
    ours = engine_cli("collect-results", "--input_dir", out, "--compat", "upstream").stdout
    assert theirs == ours
    assert "Total records: 12" in ours


RELOAD = """
import json, sys, torch
from roga_domainbed.upstream import bridge
host = bridge.register()
for path in sys.argv[2:]:
    saved = torch.load(path, weights_only=False)
    make = host.algorithms.get_algorithm_class(saved["args"]["algorithm"])
    shape = saved["model_input_shape"], saved["model_num_classes"], saved["model_num_domains"]
    algorithm = make(*shape, saved["model_hparams"])
    algorithm.load_state_dict(saved["model_dict"])
    algorithm.eval()
    x = torch.linspace(-1, 1, 2 * 3 * 28 * 28).reshape(2, 3, 28, 28)
    with torch.no_grad():
        print(json.dumps([host.name, algorithm.predict(x).tolist()]))
"""


def test_either_model_is_loaded_by_either_backend_and_predicts_the_same(sweeps):
    out, before, _ = sweeps["upstream"]
    paths = sorted(out.glob("*/model.pkl"))
    assert len(paths) == 6
    theirs = sum(path.parent / "results.jsonl" in before for path in paths)
    assert theirs == 3
    found = {}
    for home in (os.environ["DOMAINBED_HOME"], ""):
        command = [sys.executable, "-c", RELOAD, "_", *map(str, paths)]
        environment = {**os.environ, "DOMAINBED_HOME": home}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found[lines[0][0]] = [prediction for _, prediction in lines]
    assert set(found) == {"engine", "upstream"}
    assert found["engine"] == found["upstream"]
    assert len(found["engine"]) == 6


LOAD = """
import json, sys, torch
from roga_domainbed.inference.saved_run import load_run
for folder in sys.argv[1:]:
    run = load_run(folder)
    x = torch.linspace(-1, 1, 2 * 3 * 28 * 28).reshape(2, 3, 28, 28)
    with torch.no_grad():
        print(json.dumps([run.args["algorithm"], run.algorithm.predict(x).tolist()]))
"""


@pytest.mark.parametrize("algorithm", ["ERM", "GroupDRO", "Fish", "ERMPlusPlus", "URM"])
def test_a_model_of_the_stock_script_is_loaded_safely_on_either_backend(
    algorithm, run_stock, engine_cli, tmp_path
):
    out = tmp_path / "run"
    # a random search: upstream leaves numpy's numbers among the hyper-parameters
    flags = ["--dataset", "Debug28", "--algorithm", algorithm, "--steps", 2, "--hparams_seed", 1]
    run_stock("train", *flags, "--hparams", '{"batch_size": 8}', "--output_dir", out)
    found = []
    for home in (os.environ["DOMAINBED_HOME"], ""):
        environment = {**os.environ, "DOMAINBED_HOME": home}
        command = [sys.executable, "-c", LOAD, str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]))  # upstream's URM prints, too
    assert found[0][0] == algorithm
    assert found[0] == found[1]
    rows = json.loads(engine_cli("evaluate", out, "--format", "json").stdout)["results"]
    assert [row["role"] for row in rows] == ["test", "oracle selection", *["training", "selection"] * 2]


def test_evaluate_on_the_checkout_repeats_the_last_record(run_cli, faces, tmp_path):
    out = tmp_path / "run"
    flags = ["--data_dir", faces, "--dataset", "SynthFake", "--algorithm", "SagNet", "--steps", 2]
    run_cli("train", *flags, "--hparams", '{"batch_size": 4}', "--output_dir", out)
    last = json.loads((out / "results.jsonl").read_text().splitlines()[-1])
    rows = json.loads(run_cli("evaluate", out, "--format", "json").stdout)["results"]
    for row in rows:
        prefix = f"env{row['env']}_{row['part']}_" + "video_" * (row["level"] == "video")
        assert {row[name] == last[prefix + name] for name in ("n", "acc", "auc", "log_loss")} == {True}
    on_the_engine = json.loads(
        run_cli("evaluate", out, "--format", "json", env={"DOMAINBED_HOME": ""}).stdout
    )
    for ours, row in zip(on_the_engine["results"], rows, strict=True):
        assert (ours["n"], ours["acc"]) == (row["n"], row["acc"])
        assert ours["log_loss"] == pytest.approx(row["log_loss"], rel=1e-6)
