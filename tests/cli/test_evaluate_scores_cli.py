"""``evaluate --scores``: numbers of any detector's scores are scikit-learn's, and faults are named with their lines."""

import csv
import io
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    log_loss,
    roc_auc_score,
    roc_curve,
)

from roga_domainbed.cli import main
from roga_domainbed.results.statistics import auc_interval, roc_intervals

ROOT = Path(__file__).resolve().parents[2]


def made(n_videos=20, n_frames=3, envs=("DF", "NT"), seed=0):
    """Probabilities of a detector: a table with every column."""
    rng, rows = np.random.RandomState(seed), []
    for number, env in enumerate(envs):
        for video in range(n_videos):
            label, own = video % 2, 0.7 * rng.randn()
            for frame in range(n_frames):
                logit = own + label * (1.5 - number / 2) + 0.8 * rng.randn()
                rows.append((f"{env}/{video}/{frame}.png", env, f"v{video}", label, 1 / (1 + np.exp(-logit))))
    return pd.DataFrame(rows, columns=["path", "env", "video", "label", "score"])


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Evaluate tables or texts, each in a file of its own; gives what was printed."""
    monkeypatch.chdir(tmp_path)

    def evaluate(*files, flags=(), code=0):
        for place, content in enumerate(files):
            if isinstance(content, pd.DataFrame):
                content.to_csv(f"{'abcdefgh'[place]}.csv", index=False)
            elif content is not None:
                Path(f"{'abcdefgh'[place]}.csv").write_text(content, encoding="utf-8")
        names = [f"{'abcdefgh'[place]}.csv" for place in range(len(files))]
        assert main(["evaluate", "--scores", *names, *map(str, flags)]) == code
        return capsys.readouterr()

    return evaluate


def rows_of(printed):
    return {
        (row["detector"], row["env_name"], row["level"]): row for row in json.loads(printed.out)["results"]
    }


def eer(labels, scores):
    """Where scikit-learn's curve, its points joined by lines, crosses FPR = 1 - TPR."""
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return np.interp(0, (fpr + tpr - 1), fpr)


def test_15000_scores_have_the_numbers_of_scikit_learn(run):
    table = made(250, 30)
    found = rows_of(run(table, flags=["--format", "json"]))
    assert len(found) == 3 * 2
    groups = {"DF": table[table.env == "DF"], "NT": table[table.env == "NT"], "together": table}
    for env, own in groups.items():
        of_videos = own.groupby(["env", "video"]).agg(label=("label", "first"), score=("score", "mean"))
        for level, part in (("frame", own), ("video", of_videos)):
            row, y, p = found["a", env, level], part["label"].to_numpy(), part["score"].to_numpy()
            wanted = {
                "n": len(y),
                "auc": roc_auc_score(y, p),
                "eer": eer(y, p),
                "ap": average_precision_score(y, p),
                "acc": accuracy_score(y, p > 0.5),
                "balanced_acc": balanced_accuracy_score(y, p > 0.5),
                "log_loss": log_loss(y, p),
            }
            for name, value in wanted.items():
                assert row[name] == pytest.approx(value, abs=1e-12), (env, level, name)


RESAMPLES = 100


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(
        "roga_domainbed.report.detectors.roc_intervals", partial(roc_intervals, resamples=RESAMPLES)
    )


def resamples(labels, videos, n=RESAMPLES):
    """Indices of the frames of resampled videos, as the intervals draw them: reals, then fakes."""
    keys = np.unique(videos)
    of_label = [
        [np.flatnonzero(videos == key) for key in keys if labels[videos == key][0] == label]
        for label in (0, 1)
    ]
    rng = np.random.RandomState(0)
    for _ in range(n):
        yield np.concatenate([own[k] for own in of_label for k in rng.randint(0, len(own), len(own))])


def test_the_intervals_are_those_of_a_bootstrap_with_scikit_learn(run):
    table = made(12, 3, envs=["DF"])
    row = rows_of(run(table, flags=["--format", "json"]))["a", "DF", "frame"]
    labels, scores = table["label"].to_numpy(), table["score"].to_numpy()
    videos = ("v " + table["video"]).to_numpy(dtype=object)
    drawn = list(resamples(labels, videos))
    eers = [eer(labels[own], scores[own]) for own in drawn]
    assert [row["eer_low"], row["eer_high"]] == pytest.approx(np.quantile(eers, [0.025, 0.975]), abs=1e-9)
    # BCa of the AUC: tests/results/test_statistics.py compares it with scipy's
    wanted = auc_interval(scores, labels, videos, resamples=RESAMPLES)
    assert [row["auc_low"], row["auc_high"]] == pytest.approx(wanted, abs=1e-12)
    aucs = [roc_auc_score(labels[own], scores[own]) for own in drawn]
    assert [row["auc_low"], row["auc_high"]] == pytest.approx(np.quantile(aucs, [0.025, 0.975]), abs=0.05)
    assert row["over"] == "videos"


def test_without_videos_every_sample_is_drawn_by_itself(run):
    table = made(12, 3, envs=["DF"]).drop(columns=["video", "env"])
    (row,) = rows_of(run(table, flags=["--format", "json"])).values()
    assert (row["env_name"], row["level"], row["over"], row["n"]) == ("all", "frame", "samples", 36)
    labels, scores = table["label"].to_numpy(), table["score"].to_numpy()
    names = np.array([f"s {i}" for i in range(36)], dtype=object)
    eers = [eer(labels[own], scores[own]) for own in resamples(labels, names)]
    assert [row["eer_low"], row["eer_high"]] == pytest.approx(np.quantile(eers, [0.025, 0.975]), abs=1e-9)


def test_several_detectors_stand_side_by_side_and_the_text_fits_a_terminal(run):
    one, other = made(), made(seed=1)
    out = run(one, other, flags=["--names", "Xception", "RoGA"]).out
    lines = out.splitlines()
    assert lines[:2] == ["Xception: a.csv", "RoGA: b.csv"]
    assert max(map(len, lines)) <= 110
    assert max(len(line) for line in lines if line.startswith(" ")) <= 80
    at = next(i for i, line in enumerate(lines) if line.startswith("DF "))
    assert [line.split()[:2] for line in lines[at : at + 4]] == [
        ["DF", "frame"], ["RoGA", "60"], ["video", "Xception"], ["RoGA", "20"],
    ]  # fmt: skip
    auc = roc_auc_score(*(one[one.env == "DF"][name] for name in ("label", "score")))
    assert f" {100 * auc:.1f} " in lines[at]
    assert "different samples" not in out


def test_detectors_that_were_tested_on_other_samples_are_named(run):
    table = made()
    out = run(table, table.iloc[3:]).out
    assert "a and b were tested on different samples: 120 and 117, of which 117 are the same" in out


def test_scores_that_are_no_probabilities_have_no_accuracy_and_log_loss_but_the_rest(run):
    table = made()
    logits = table.assign(score=np.log(table["score"] / (1 - table["score"])))
    n = int(((logits["score"] < 0) | (logits["score"] > 1)).sum())
    found = rows_of(run(table, logits, flags=["--format", "json"]))
    for key, row in found.items():
        if key[0] == "b":
            why = f"{n} of 120 scores of the file are outside [0, 1]: not probabilities"
            assert row["why_null"] == dict.fromkeys(["acc", "balanced_acc", "log_loss", "ece"], why)
            assert row["acc"] is None
            if key[2] == "frame":
                assert row["auc"] == pytest.approx(found["a", key[1], key[2]]["auc"], abs=1e-12)
    assert f"no acc, balanced_acc, log_loss, ece: {n} of 120 scores" in run(logits).out


def test_one_class_alone_is_explained_and_no_fault(run):
    table = made()
    table = table[(table.env == "DF") | (table.label == 1)]
    printed = run(table, flags=["--format", "json"])
    row = rows_of(printed)["a", "NT", "frame"]
    assert row["auc"] is None
    assert row["auc_low"] is None
    assert row["why_null"]["auc"] == "only fakes among 30 samples: both classes are needed"
    assert rows_of(printed)["a", "together", "frame"]["auc"] is not None


@pytest.mark.parametrize(
    ("real", "fake", "flags"),
    [
        ("0", "1", []),
        ("0.0", "1.0", []),
        ("Real", "FAKE", []),
        ("original", "deepfakes", []),
        ("orig", "FS", ["--real", "orig", "--fake", "FS"]),
        ("1", "0", ["--real", "1", "--fake", "0"]),
        ("zebra", "ape", ["--real", "zebra", "--fake", "ape"]),
    ],
)
def test_labels_are_understood_by_number_by_meaning_or_as_the_user_says(real, fake, flags, run):
    table = made(envs=["DF"])
    wanted = roc_auc_score(table["label"], table["score"])
    named = table.assign(label=[fake if label else real for label in table["label"]])
    assert rows_of(run(named, flags=[*flags, "--format", "json"]))["a", "DF", "frame"][
        "auc"
    ] == pytest.approx(wanted)


FAULTY = """path;env;label;score;video
a.png;DF;0;0.1;v1
b.png;DF;maybe;0.1;v2
c.png;DF;1;nan;v3
d.png;DF;1;high;v3
e.png;DF;1;;v3
a.png;DF;1;0.3;v4
g.png;DF;1;0.3;v1
;DF;1;0.3;v5
"""


def test_all_faults_of_all_files_come_at_once_with_their_lines(run):
    err = run(FAULTY, "id,score\nx,0.3\n", code=2).err
    assert "6 problems:" in err
    for said in (
        "a label that is not 0 or 1 and does not mean real or fake",
        "line 3 'maybe'",
        "a score that is no finite number, in 3 rows: line 4 'nan', line 5 'high', line 6 ''",
        "a path that is there before in the same environment, in 1 row: line 7 'a.png'",
        "a video that has the other label before, in 1 row: line 8 'v1'",
        "no path, in 1 row: line 9",
        "6. b.csv: lacks the column label; it has 'id', 'score'",
    ):
        assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("path,label,score\n", "has no rows"),
        ("path,label,score\n\n\n", "has no rows"),
        ("label,score\n0,1\n", "lacks the column path (or id)"),
        ("path,label,score,label\na,0,1,1\n", "names the column 'label' twice"),
        ("path,label,score\na,0\n", "not 3 fields, as the first line has, in 1 row: line 2 2"),
        ("path,label,score\na,True,0.5\n", "a label that is not 0 or 1"),
        ("path,label,score\na,0,inf\n", "no finite number"),
        ('path,label,score\n"a,0,0.5\n', "not 3 fields"),
    ],
)
def test_a_file_that_is_no_list_of_scores_is_a_fault(content, said, run):
    err = run(content, code=2).err
    assert "a.csv: " in err
    assert said in err


def test_files_from_elsewhere_may_be_anything(run, tmp_path):
    Path("a.csv").write_bytes(b"path,label,score\n\xff\xfe,0,1\n")
    assert "not UTF-8 text" in run(None, code=2).err
    os.remove("a.csv")
    os.mkfifo("a.csv")
    assert "not a regular file but a named pipe" in run(None, code=2).err
    os.remove("a.csv")
    assert "No such file" in run(None, code=2).err
    Path("a.csv").write_bytes(b"PAR1 and then something else PAR1")
    assert "cannot be read as Parquet" in run(None, code=2).err
    table = made(envs=["D\x1b[31mF"])
    assert "\x1b" not in run(table).out


def test_parquet_with_any_types_and_columns_gives_what_csv_gives(run, tmp_path):
    table = made()
    wanted = rows_of(run(table, flags=["--format", "json"]))
    odd = table.rename(columns={"path": "ID", "env": "Environment", "score": "Score"}).assign(extra=None)
    odd["label"] = odd["label"].astype(float)
    odd["Environment"] = odd["Environment"].astype("category")
    odd.to_parquet("a.csv")
    assert rows_of(run(None, flags=["--format", "json"])) == wanted


def test_an_environment_column_may_be_a_number_and_envs_choose(run):
    table = made().assign(env=[0] * 60 + [1] * 60)
    found = rows_of(run(table, flags=["--format", "json", "--envs", "0"]))
    assert {key[1] for key in found} == {"0"}
    err = run(table, flags=["--envs", "2"], code=2).err
    assert "unknown environment '2'" in err


def test_csv_has_a_row_for_each_and_no_formula(run):
    table = made()
    table.to_csv("a.csv", index=False)
    printed = run(None, flags=["--names", "=1+1", "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert len(rows) == 6
    assert rows[0]["detector"] == "'=1+1"
    assert "95 % interval over videos" in printed.err


def test_scores_that_grow_with_realness_are_noticed(run):
    table = made(100)
    assert "worse than chance everywhere" in run(table.assign(score=1 - table["score"])).out
    assert "worse than chance" not in run(table).out


def test_the_output_of_predict_with_labels_is_read_face_by_face(run):
    text = (
        "path,kind,level,frame,x,y,width,height,detection_score,probability,verdict,error,label\n"
        "a.mp4,video,face,0,1,1,9,9,0.9,0.25,real,,real\n"
        "a.mp4,video,face,5,1,1,9,9,0.9,0.75,fake,,real\n"
        "a.mp4,video,video,,,,,,,0.5,real,,real\n"
        "b.png,image,face,,1,1,9,9,0.9,0.875,fake,,fake\n"
        "b.png,image,face,,50,1,9,9,0.9,0.5,real,,fake\n"
        "c.png,image,,,,,,,,,,no face,fake\n"
    )
    printed = run(text, flags=["--format", "json"])
    row = rows_of(printed)["a", "all", "frame"]
    assert (row["n"], row["auc"]) == (4, 0.75), "0.875 beats both reals, 0.5 one of them"
    assert rows_of(printed)["a", "all", "video"]["n"] == 1
    assert "a: 1 files have no score" in json.loads(printed.out)["notes"][0]


def test_the_page_has_tables_curves_and_names_that_are_only_names(run, monkeypatch):
    pytest.importorskip("jinja2")
    drawn = []
    monkeypatch.setattr(
        "roga_domainbed.report.html.inline_svg",
        lambda panel, prefix: drawn.append(panel.title) or "<svg></svg>",
    )
    table = made()
    run(
        table,
        table.assign(score=5 * table["score"]),
        flags=["--names", "<b>x</b>", "y", "--report", "page.html"],
    )
    page = Path("page.html").read_text(encoding="utf-8")
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    for section in ('id="roc"', 'id="det"', 'id="scores"'):
        assert section in page
    curves = [f"{env}, {level}" for env in ("DF", "NT", "together") for level in ("frames", "videos")]
    histograms = [f"{env}, {name}" for env in ("DF", "NT", "together") for name in ("<b>x</b>", "y")]
    assert drawn == [*curves, *curves, *histograms]
    Path("other.html").write_text("my notes")
    err = run(table, flags=["--report", "other.html"], code=2).err
    assert "holds something else" in err
    assert Path("other.html").read_text() == "my notes"


def test_it_goes_without_a_model_and_says_so(run, tmp_path):
    table = made()
    err = run(table, flags=["--data_dir", "x", "--n_workers", "2", "--figure", "f.png"], code=2).err
    assert "--scores needs no model and no images: leave out --data_dir, --n_workers, --figure" in err
    assert main(["evaluate", "runs/x", "--scores", "new.parquet"]) == 2
    assert main(["evaluate"]) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("evaluate runs/x --scores new.parquet", "to write a run's, use --save_scores"),
        ("evaluate", "give a RUN, or the scores of any detector with --scores FILE"),
        ("evaluate a b", "one RUN is evaluated at a time, several with --corruptions"),
        ("evaluate a --report x.html", "--report goes with --scores"),
        ("evaluate --scores a.csv a.csv", "a file of --scores is there twice"),
        ("evaluate --scores a.csv b.csv --names x", "--names needs a name for each of the 2 files; got 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(line, said, capsys):
    assert main(line.split()) == 2
    assert said in capsys.readouterr().err


def test_a_runs_own_file_is_read_at_its_last_step_and_by_split(run):
    rows = [
        {"step": step, "env": env, "env_name": "AB"[env], "split": split, "index": i, "video": f"{env}/{label}/{i}",
         "path": None, "label": label, "predicted": 1, "score": 0.5 + step / 10 if label else 0.6}
        for step in (1, 2) for env in (0, 1) for split in ("in", "out") for i, label in enumerate([0, 0, 1, 1])
    ]  # fmt: skip
    pd.DataFrame(rows).assign(probabilities=pd.Series([None] * len(rows), dtype="object")).to_parquet("a.csv")
    printed = run(None, flags=["--format", "json"])
    found = rows_of(printed)
    assert {key[1] for key in found} == {"A in", "A out", "B in", "B out"}, (
        "nothing together: training data is in it"
    )
    assert found["a", "A in", "frame"]["auc"] == 1.0, "at step 1 it would be a tie, 0.5"
    assert "a: of 2 steps the last, 2" in json.loads(printed.out)["notes"]


def test_it_loads_numpy_and_no_other_large_library(tmp_path):
    """scikit-learn, scipy.stats and pandas take two seconds to import, the numbers half of one."""
    made(4).to_csv(tmp_path / "a.csv", index=False)
    code = (
        "import sys; from roga_domainbed.cli import main; main(sys.argv[1:]);"
        "print(*(name for name in ('numpy', 'scipy', 'sklearn', 'pandas', 'pyarrow', 'torch') if name in sys.modules))"
    )
    command = [sys.executable, "-c", code, "evaluate", "--scores", tmp_path / "a.csv"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "numpy"


@pytest.mark.slow
def test_15000_scores_take_no_more_than_a_user_waits(tmp_path):
    """Three seconds of a free core; the import of scikit-learn takes two there, and more as the machine is busier."""
    made(250, 30).to_csv(tmp_path / "a.csv", index=False)
    whole = processor_seconds("-m", "roga_domainbed", "evaluate", "--scores", tmp_path / "a.csv")
    assert whole < 1.5 * processor_seconds("-c", "import sklearn.metrics")


def processor_seconds(*argv):
    before = os.times()
    command = [sys.executable, *map(str, argv)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
