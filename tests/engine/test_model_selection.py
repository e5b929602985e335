import json
import tarfile
from pathlib import Path

import pytest

from roga_domainbed.engine import model_selection
from roga_domainbed.engine.lib.reporting import get_grouped_records, load_records

DATA = Path(__file__).parents[1] / "data"
CASES = json.loads((DATA / "selection" / "model_selection_synthetic.json").read_text())
METHODS = ["IIDAccuracySelectionMethod", "LeaveOneOutSelectionMethod", "OracleSelectionMethod"]


@pytest.fixture(scope="module")
def vlcs_groups(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    with tarfile.open(DATA / "report" / "vlcs_sweep.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return get_grouped_records(load_records(folder / "vlcs_sweep"))


@pytest.mark.parametrize("expected", json.loads((DATA / "selection" / "model_selection.json").read_text()))
def test_bundled_sweep_is_ranked_as_upstream_ranks_it(vlcs_groups, expected):
    keys = ("trial_seed", "dataset", "algorithm", "test_env")
    (group,) = [g for g in vlcs_groups if all(g[key] == expected[key] for key in keys)]
    assert len(group["records"]) == expected["n_records"]
    for name in METHODS:
        method = getattr(model_selection, name)
        assert method.name == expected[name]["name"]
        assert method.sweep_acc(group["records"]) == expected[name]["sweep_acc"]
        ranked = [
            {"hparams_seed": records[0]["args"]["hparams_seed"], **accs}
            for accs, records in method.hparams_accs(group["records"])
        ]
        assert ranked == expected[name]["hparams_accs_best_first"]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_synthetic_cases_hold(case, name):
    method = getattr(model_selection, name)
    expected = case["expected"][name]
    assert method.sweep_acc(case["records"]) == pytest.approx(expected["sweep_acc"])
    if expected["run_acc"] != "n/a":
        accs = expected["run_acc"] and {key: float(value) for key, value in expected["run_acc"].items()}
        assert method.run_acc(case["records"]) == (accs and pytest.approx(accs, nan_ok=True))


def test_auto_lr_reads_the_second_stage_and_insists_on_it():
    args = {"test_envs": [0], "hparams_seed": 0, "trial_seed": 0, "dataset": "D", "algorithm": "A"}
    record = {"args": args, "step": 0, "env0_in_acc": 0.1, "env0_out_acc": 0.2, "env1_out_acc": 0.5}
    method = model_selection.IIDAutoLRAccuracySelectionMethod
    assert method.run_acc([{**record, "fd_env0_in_acc": 0.7}]) == {"val_acc": 0.5, "test_acc": 0.7}
    with pytest.raises(KeyError, match="fd_env0_in_acc"):
        method.run_acc([record])
    with pytest.raises(KeyError, match="fd_env0_in_acc"):
        method.sweep_acc([record])


def test_a_method_is_no_instance():
    with pytest.raises(TypeError):
        model_selection.OracleSelectionMethod()


def test_test_records_have_one_test_env():
    records = [{"args": {"test_envs": envs}} for envs in ([0], [0, 1], [1])]
    assert model_selection.get_test_records(records) == [records[0], records[2]]
