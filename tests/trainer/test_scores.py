"""``scores.parquet``: the numbers of records can be made from it, with scikit-learn and without a model."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk

from datasets_ext import manifest
from datasets_ext.synthfake.generate import generate
from roga_domainbed.errors import RogaError
from roga_domainbed.input.environment import Environment, environment_of
from roga_domainbed.metrics import METRICS
from roga_domainbed.metrics.split import SplitScores
from roga_domainbed.metrics.video import video_scores
from roga_domainbed.results.records import SCORES
from roga_domainbed.trainer import scores as scores_file
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.evaluation import EvaluatedSplit
from roga_domainbed.trainer.run import train
from roga_domainbed.trainer.scores import SCHEMA, add_scores, write_scores

SKLEARN = {
    "acc": lambda y, p: sk.accuracy_score(y, p > 0.5),
    "balanced_acc": lambda y, p: sk.balanced_accuracy_score(y, p > 0.5),
    "auc": sk.roc_auc_score,
    "ap": sk.average_precision_score,
    "log_loss": sk.log_loss,
}

BINARY = [metric.name for metric in METRICS if not metric.many_classes]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short run on a small SynthFake: its records and its scores."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("run") / "run"
    generate(data, n_identities=6, n_frames=3)
    options = {
        "hparams": '{"batch_size": 4}',
        "steps": 3,
        "checkpoint_freq": 1,
        "n_workers": 0,
        "test_envs": [3],
    }
    train(TrainConfig(str(data), "SynthFake", output_dir=str(folder), **options))
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return data, records, pd.read_parquet(folder / SCORES)


def test_every_metric_made_from_the_scores_of_a_step_is_that_of_its_record(finished):
    _, records, scores = finished
    record_of = {record["step"]: record for record in records}
    n_checked = 0
    for (step, env, part), rows in scores.groupby(["step", "env", "split"]):
        last = record_of[step]
        frames = rows["label"].to_numpy(), rows["score"].to_numpy()
        videos = rows.groupby("video")
        by_video = videos["label"].first().to_numpy(), videos["score"].mean().to_numpy()
        pooled = video_scores(rows["score"], rows["label"], rows["video"].tolist())[::-1]
        for level, theirs, ours in (("", frames, frames), ("video_", by_video, pooled)):
            prefix = f"env{env}_{part}_{level}"
            assert last[f"{prefix}n"] == len(theirs[0])
            for name, metric in SKLEARN.items():
                assert last[prefix + name] == pytest.approx(metric(*theirs), abs=1e-9), prefix + name
            for name in BINARY:
                assert last[prefix + name] == METRICS.get(name).function(ours[1], ours[0]), prefix + name
                n_checked += 1
    parts = 2 + 2 + 4 * 2  # those of the held-out environment at each step, all of them at the last
    assert n_checked == parts * 2 * len(BINARY), "levels and metrics"


def test_the_columns_say_what_each_sample_is(finished):
    data, _, scores = finished
    assert list(scores.columns) == SCHEMA.names
    rows = manifest.read(data / "SynthFake").set_index("path")
    for row in scores.itertuples():
        source = rows.loc[row.path]
        assert (row.env_name, row.label) == (source["env"], source["label"])
        assert row.video == f"{source['env']}/{source['label']}/{source['video']}"
        assert row.predicted == (row.score > 0.5)
    held_out = scores[(scores["env"] == 3) & (scores["split"] == "in")]
    assert set(rows.loc[held_out["path"], "split"]) == {"test"}
    assert scores["probabilities"].isna().all()
    assert not scores.duplicated(["step", "env", "split", "index"]).any()


def multi_class(n_classes, n=4):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(n_classes), n).astype(np.float32)
    scores = SplitScores(np.arange(n) % n_classes, probabilities.argmax(1), probabilities, [5, 1, 3, 0])
    return EvaluatedSplit(2, "S", "out", Environment(), scores)


def test_more_than_two_classes_have_probabilities_and_no_score(tmp_path):
    split = multi_class(3)
    write_scores(tmp_path / SCORES, [split, split])
    rows = pd.read_parquet(tmp_path / SCORES)
    assert rows["score"].isna().all()
    assert rows["video"].isna().all()
    assert rows["index"].tolist() == [5, 1, 3, 0] * 2
    np.testing.assert_array_equal(np.stack(rows["probabilities"])[4:], split.scores.probabilities)


def test_probabilities_that_would_fill_the_disk_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(scores_file, "MOST_PROBABILITIES", 11)
    write_scores(tmp_path / SCORES, [multi_class(3)])  # 12 of them
    rows = pd.read_parquet(tmp_path / SCORES)
    assert rows["probabilities"].isna().all()
    assert rows["predicted"].tolist() == multi_class(3).scores.predicted.tolist()


def test_a_file_that_cannot_be_written_leaves_the_earlier_one_and_no_litter(tmp_path, monkeypatch):
    write_scores(tmp_path / SCORES, [multi_class(3)])
    before = (tmp_path / "scores.parquet").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        write_scores(tmp_path / SCORES, [multi_class(4)])
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]
    assert (tmp_path / "scores.parquet").read_bytes() == before


def test_steps_that_a_resumed_run_comes_to_again_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(scores_file, "GROUP_ROWS", 10)  # so that steps begin and end within groups
    split = multi_class(3)
    paths = {name: tmp_path / name for name in ("unbroken", "resumed")}
    for step in range(7):
        add_scores(paths["unbroken"], [split], step)
        add_scores(paths["resumed"], [split], step)
    for step in (2, 3, 4, 5, 6):
        add_scores(paths["resumed"], [split], step)
    assert paths["resumed"].read_bytes() == paths["unbroken"].read_bytes()
    assert pd.read_parquet(paths["resumed"])["step"].value_counts().to_dict() == dict.fromkeys(range(7), 4)


def test_adding_a_step_imports_no_pyarrow_dataset(tmp_path):
    code = """
        import sys
        from pathlib import Path
        from types import SimpleNamespace
        import numpy as np
        from roga_domainbed.metrics.split import SplitScores
        from roga_domainbed.trainer.scores import add_scores

        found = SplitScores(np.array([1]), np.array([1]), np.array([[0.2, 0.8]]), [0])
        split = SimpleNamespace(
            env=0, env_name="0", part="in", environment=SimpleNamespace(relative_paths=None), scores=found
        )
        for step in range(2):
            add_scores(Path(sys.argv[1]), [split], step)
        assert "pyarrow.dataset" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "file")], check=True)
    assert pd.read_parquet(tmp_path / "file")["step"].tolist() == [0, 1]


def test_scores_of_the_first_version_are_replaced_and_damaged_ones_are_not(tmp_path):
    path = tmp_path / SCORES
    write_scores(path, [multi_class(3)])
    pq.write_table(pq.read_table(path).drop_columns("step"), path)
    add_scores(path, [multi_class(3)], 5)
    assert pd.read_parquet(path)["step"].tolist() == [5] * 4
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(RogaError, match=r"cannot be read: .*; rename it to go on without the scores in it"):
        add_scores(path, [multi_class(3)], 6)
    assert path.read_bytes() == b"PAR1 nonsense"


def test_the_files_of_torchvisions_image_folders_are_found_too(tmp_path, monkeypatch):
    from types import SimpleNamespace

    root = tmp_path / "PACS" / "art"
    upstreams = SimpleNamespace(root=str(root), samples=[(str(root / "dog" / "a b.png"), 0)])
    adapted = environment_of(upstreams)
    assert (adapted.folder, adapted.relative_paths) == (str(tmp_path / "PACS"), ["art/dog/a b.png"])
    monkeypatch.chdir(tmp_path)
    relative = SimpleNamespace(root="PACS/art/", samples=[("PACS/art/dog/a b.png", 0)])
    adapted = environment_of(relative)
    assert (adapted.folder, adapted.relative_paths) == ("PACS", ["art/dog/a b.png"])
    assert environment_of(SimpleNamespace(images=[])).relative_paths is None
