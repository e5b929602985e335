"""The sentences at the head of a report."""

from made_sweep import arguments, write_run, write_sweep

from roga_domainbed.metrics import get_metric
from roga_domainbed.report.health import run_health
from roga_domainbed.report.study import study
from roga_domainbed.report.summary import summary
from roga_domainbed.results.runs import load_runs
from roga_domainbed.results.selection import RULES


def sentences(folder, rule="iid", metric="auc"):
    found = study([folder], load_runs(folder, metric), [RULES.get(rule)], get_metric(metric), "ERM")
    return summary(found, run_health([folder], found.loaded.runs))


def text_of(folder, **kwargs):
    return " ".join(sentence.text for sentence in sentences(folder, **kwargs))


def made(folder, skills, trials=1):
    """A sweep in which an algorithm's accuracy is its skill, everywhere."""
    for algorithm, skill in skills.items():
        for env in range(4):
            for trial in range(trials):
                write_run(
                    folder,
                    arguments("B", algorithm, (env,), trial),
                    steps=(0,),
                    metrics=skill + 0.001 * trial,
                )
    return folder


def test_the_best_and_the_runner_up_are_named_with_their_averages(tmp_path):
    text = text_of(made(tmp_path, {"ERM": 0.7, "SAM": 0.8, "RoGA": 0.75}), metric="acc")
    assert "B: SAM has the highest average accuracy, 80.0; RoGA is second with 75.0." in text
    assert (
        "B: Too few trials to compare ERM and RoGA with SAM: with 4 pairs the test cannot reach p < 0.05. Add trials."
    ) in text, "four environments, one trial"


def test_of_many_rows_with_too_few_trials_the_number_is_said(tmp_path):
    skills = {"ERM": 0.7, "SAM": 0.8, "RoGA": 0.75, "IRM": 0.6, "CORAL": 0.65}
    text = text_of(made(tmp_path, skills), metric="acc")
    assert "Too few trials to compare the other 4 rows with SAM: with 4 pairs" in text


def test_significant_differences_from_the_best_and_from_the_baseline_are_named(tmp_path):
    # eight pairs, all in one direction: p = 2 / 2**8, times 2
    text = text_of(made(tmp_path, {"ERM": 0.7, "SAM": 0.8, "RoGA": 0.75}, trials=2), metric="acc")
    assert "B: Worse than SAM (p < 0.05): ERM and RoGA." in text
    assert "Better than ERM (p < 0.05): SAM and RoGA." in text


def test_one_algorithm_is_not_called_best(tmp_path):
    text = text_of(made(tmp_path, {"ERM": 0.7}), metric="acc")
    assert "B: ERM has an average accuracy of 70.0." in text
    assert "One algorithm on B: one trial" in text


def test_a_missing_run_an_unfinished_and_a_failed_one_are_warnings(tmp_path):
    write_sweep(tmp_path, algorithms=["ERM", "SAM"], envs=[0, 1], steps=(0,), scores=False)
    write_run(tmp_path, arguments("SynthFake", "ERM", (2,)), steps=(0,), scores=False, done=False)
    failed = write_run(tmp_path, arguments("SynthFake", "SAM", (3,)), steps=(0,), scores=False, done=False)
    (failed / "job.json").write_text(
        '{"argv": [], "exit_code": 3, "started": 0, "seconds": 1, "host": "h", "pid": 1}'
    )
    warnings = [sentence.text for sentence in sentences(tmp_path) if sentence.is_warning]
    assert "SynthFake: no algorithm has a number in every environment, so there is no best one." in warnings
    assert any(
        text.startswith(
            "Runs are missing in 2 cells: SynthFake: ERM, NT: no run; SynthFake: SAM, FS: no run."
        )
        for text in warnings
    )
    assert "1 of 6 runs failed." in warnings
    assert "1 of 6 runs did not finish." in warnings


def test_an_oracle_is_a_warning(tmp_path):
    write_sweep(tmp_path, algorithms=["ERM"], envs=[0], steps=(0,), scores=False)
    found = [sentence.text for sentence in sentences(tmp_path, rule="oracle") if sentence.is_warning]
    assert any("Test data chose these numbers" in text for text in found)


def test_metrics_have_titles():
    assert get_metric("video_auc").title == "video AUC"
    assert get_metric("tpr_at_fpr_1pct").title == "TPR at 1 % FPR"
    assert get_metric("my_metric").title == "my_metric"
