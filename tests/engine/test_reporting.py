import json

from roga_domainbed.engine.lib.reporting import get_grouped_records, load_records


def line(**args):
    full = {"test_envs": [0], "trial_seed": 0, "dataset": "D", "algorithm": "A", "hparams_seed": 0, **args}
    return json.dumps({"args": full, "step": 0}) + "\n"


def test_records_of_every_job_are_read_and_a_broken_line_is_named(tmp_path, capsys):
    for name, text in (("b", line(trial_seed=1)), ("a", line() + '{"args": {"te')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.jsonl").write_text(text)
    (tmp_path / "results.txt").write_text("")
    (tmp_path / "empty").mkdir()
    records = load_records(tmp_path)
    assert records.select("args.trial_seed") == [0, 1]
    assert "results.jsonl, line 2" in capsys.readouterr().err


def test_groups_come_in_order_of_first_appearance():
    records = [json.loads(line(test_envs=[1, 0])), json.loads(line(test_envs=[0], trial_seed=1))]
    groups = get_grouped_records(records)
    assert groups.select("trial_seed,test_env") == [(0, 1), (0, 0), (1, 0)]
    assert groups[0]["records"] == [records[0]]
    assert sorted(groups[0]) == ["algorithm", "dataset", "records", "test_env", "trial_seed"]
