import io
import json
from pathlib import Path

import pandas as pd
import pytest

from roga_domainbed.catalog.registry import load
from roga_domainbed.metrics import ACCURACY, get_metric
from roga_domainbed.report.renderers import RENDERERS as FORMATS
from roga_domainbed.report.renderers.latex import escape, render_latex
from roga_domainbed.report.renderers.text import render_text
from roga_domainbed.report.tables import Cell, Row, Table, Tables, build_tables
from roga_domainbed.results.protocols import Planned, grouped
from roga_domainbed.results.runs import Run, as_runs, load_runs
from roga_domainbed.results.selected import select, select_each
from roga_domainbed.results.selection import RULES, UPSTREAM

DATA = Path(__file__).parents[1] / "data" / "report"
RENDERERS = {"txt": render_text, "tex": render_latex}
DEFAULT_RULES = [RULES.get(name) for name in ("iid", "loo", "oracle")]
IID = RULES.get("iid")


def record(
    dataset="Debug28", algorithm="ERM", test_envs=(0,), trial_seed=0, n_envs=3, value=0.5, args=(), **values
):
    """A record whose accuracies are all ``value``."""
    accuracies = {f"env{i}_{split}_acc": value for i in range(n_envs) for split in ("in", "out")}
    full = {
        "dataset": dataset,
        "algorithm": algorithm,
        "test_envs": list(test_envs),
        "trial_seed": trial_seed,
        "hparams_seed": 0,
        **dict(args),
    }
    return {"args": full, "step": 0, **accuracies, **values}


def each_env(n_envs=3, **kwargs):
    return [record(test_envs=(env,), n_envs=n_envs, **kwargs) for env in range(n_envs)]


def tables_of(records, rules=(IID,), metric=ACCURACY, compat=None):
    """The tables of records, or of runs."""
    runs = records if isinstance(records[0], Run) else as_runs(records)
    return build_tables(runs, [select(runs, rule, metric, compat=compat) for rule in rules], compat=compat)


@pytest.mark.parametrize("suffix", RENDERERS)
@pytest.mark.parametrize(
    ("sweep", "oracle", "compat"),
    [
        ("vlcs_sweep", "collect_results", None),
        ("vlcs_sweep", "collect_results", UPSTREAM),
        ("synthetic_sweep", "synthetic_collect", UPSTREAM),
    ],
)
def test_tables_equal_upstreams_byte_for_byte(sweep_folder, sweep, oracle, compat, suffix):
    records = load_runs(sweep_folder(sweep), "acc").runs
    got = RENDERERS[suffix](tables_of(records, DEFAULT_RULES, compat=compat), compat=compat)
    assert got == (DATA / f"{oracle}.{suffix}").read_text()


def rows_by_title(text):
    """Title of each table → the cells of each of its rows."""
    found = {}
    for block in text.split("\n-------- ")[1:]:
        title, *lines = block.split("\n\n")[0].splitlines()
        names = {"ERM", "VREx", "IB_ERM", "ZZ_Custom"}
        rows = [line.split("  ") for line in lines if line.split(" ")[0] in names]
        found[title] = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return found


def test_by_default_only_incomplete_averages_marks_and_errors_of_one_trial_differ_from_upstreams(
    sweep_folder,
):
    records = load_runs(sweep_folder("synthetic_sweep"), "acc").runs
    text = render_text(tables_of(records, DEFAULT_RULES))
    ours = rows_by_title(text)
    upstream = rows_by_title((DATA / "synthetic_collect.txt").read_text())
    without_numbers = {
        title for title, rows in upstream.items() if all("." not in cell for row in rows for cell in row)
    }
    assert upstream.keys() - ours.keys() == without_numbers
    assert " ".join(text.split()).count(": no table, because no run holds out ") == len(without_numbers) == 2
    changed, alone, marked = [], set(), set()
    for title, rows in ours.items():
        for row, theirs in zip(rows, upstream[title], strict=True):
            marked |= {row[0] for cell in row if "*" in cell}
            row = [cell.rstrip("*") for cell in row]
            alone |= {row[0] for cell, other in zip(row, theirs, strict=True) if f"{cell} +/- 0.0" == other}
            theirs = [
                cell if f"{cell} +/- 0.0" == other else other for cell, other in zip(row, theirs, strict=True)
            ]
            changed += [(row, theirs)] * (row != theirs)
    assert changed == [
        (["IB_ERM", "X", "X", "X", "X"], ["IB_ERM", "X", "X", "69.3 +/- 0.0", "X"]),
        (["IB_ERM", "X", "X", "X", "X"], ["IB_ERM", "X", "X", "62.6 +/- 0.0", "X"]),
    ]
    assert alone == marked == {"IB_ERM", "ZZ_Custom"}, "one trial where others have more"


@pytest.mark.parametrize(
    "case",
    [case for case in json.loads((DATA / "formatting.json").read_text())["format_mean"] if not case["latex"]],
)
def test_a_cell_is_mean_and_error_over_trials_as_upstream_formats_it(case):
    records = [
        record(trial_seed=trial, env0_in_acc=value) for trial, value in enumerate(case["data"])
    ] or each_env()[1:]
    cell = tables_of(records, compat=UPSTREAM).tables[0].rows[0].cells[0]
    assert ("X" if cell is None else cell.text("+/-")) == case["text"]
    if case["data"]:
        assert (cell.mean, cell.error) == pytest.approx((case["mean"], case["err"]), abs=1e-12)


def test_an_average_takes_complete_trials_only():
    records = each_env(value=0.5) + each_env(value=0.9, trial_seed=1)[:2]
    ours, upstream = (tables_of(records, compat=compat).tables[1] for compat in (None, UPSTREAM))
    assert ours.rows[0].cells == (Cell(50.0, None, 1),), "the error of one trial is not known"
    assert upstream.rows[0].cells[0].mean == pytest.approx(70.0)


def test_an_unknown_dataset_comes_last_with_columns_from_its_records():
    records = each_env(dataset="Mine", n_envs=4) + each_env()
    tables = tables_of(records).tables
    assert [table.dataset for table in tables] == ["Debug28", "Mine", None]
    assert tables[1].columns == ("env0", "env1", "env2", "env3")
    assert tables[2].columns == ("Debug28", "Mine")
    assert [table.dataset for table in tables_of(records, compat=UPSTREAM).tables] == [
        "Debug28",
        None,
    ]


def test_an_environment_that_the_catalog_does_not_know_gets_a_column():
    table = tables_of(each_env(n_envs=4)).tables[0]
    assert table.columns == ("0", "1", "2", "env3")


def test_algorithms_keep_the_catalogs_order_and_unknown_ones_follow():
    records = [row for name in ("Zed", "SAM", "Abc", "ERM", "RoGA") for row in each_env(algorithm=name)]
    assert [row.name for row in tables_of(records).tables[0].rows] == [
        "ERM",
        "SAM",
        "RoGA",
        "Zed",
        "Abc",
    ]


def test_environments_tested_at_once_are_the_only_columns():
    table = tables_of([record(dataset="SynthFake", n_envs=4, test_envs=(2, 3))]).tables[0]
    assert table.columns == ("FS", "NT")
    assert table.rows[0].average == 50.0


def test_environments_that_the_plan_never_holds_out_have_no_column():
    runs = as_runs([record(dataset="SynthFake", n_envs=4, test_envs=(env,), value=env / 4) for env in (2, 3)])

    def table(*held_out):
        sets = {(env,) for env in held_out}
        groups = grouped(runs, planned=Planned({"SynthFake": sets}, is_complete=bool(sets)))
        return build_tables(runs, select_each(runs, [IID], ACCURACY, groups=groups)).tables[0]

    planned = table(2, 3)
    assert planned.columns == ("FS", "NT")
    assert planned.rows[0].average == (50 + 75) / 2
    assert planned.notes() == ["The sweep holds out 2 of the 4 environments: an average is over these"]
    # One that the plan does hold out, and that no run has yet, lacks its runs; and so do all where no plan is known.
    waiting = table(0, 2, 3)
    assert waiting.columns == ("DF", "FS", "NT")
    assert waiting.rows[0].cells[0] is None
    assert "ERM, DF: no run" in " ".join(waiting.missing)
    assert table().columns == ("DF", "F2F", "FS", "NT")


def test_another_metric_is_in_the_header_of_every_table():
    values = {f"env{i}_{split}_eer": 0.25 for i in range(3) for split in ("in", "out")}
    tables = tables_of(each_env(**values), metric=get_metric("eer"))
    text = render_text(tables)
    assert (
        text.count(
            ", model selection method: training-domain validation set, metric: eer (lower is better)\n"
        )
        == 2
    )
    assert " 25.0  " in text
    assert "\\subsubsection{Debug28, metric: eer (lower is better)}" in render_latex(tables)


def test_how_runs_were_made_is_in_the_header():
    args = {"split": "frame", "allow_leakage": True}
    tables = tables_of(each_env(dataset="SynthFake", n_envs=4, args=args)).tables
    for table in tables:
        assert "frame split: frames of one video on both sides, leakage allowed" in table.title
    (plain, _) = tables_of(each_env(dataset="PACS", n_envs=4, args={"split": "frame"})).tables
    assert "frame" not in plain.title


def test_runs_made_up_differently_are_not_averaged_in_silence():
    mixed = [
        *each_env(dataset="SynthFake", n_envs=4, args={"balance": "1:4", "strict": True}),
        *each_env(dataset="SynthFake", n_envs=4, trial_seed=1, args={"balance": "1:1", "strict": True}),
    ]
    (table, _) = tables_of(mixed).tables
    assert table.caveats == (
        "real:fake 1:4 (in some of the runs)",
        "real:fake 1:1 (in some of the runs)",
        "strict",
    )


def test_label_noise_and_the_share_of_the_training_part_are_in_the_header_of_any_dataset():
    args = {"label_noise": 0.4, "train_fraction": 0.15}
    for table in tables_of(each_env(dataset="PACS", n_envs=4, args=args)).tables:
        assert table.caveats == ("label noise 40 %", "15 % of the training part")
        assert "label noise 40 %, 15 % of the training part" in table.title
    mixed = each_env(dataset="PACS", n_envs=4) + each_env(
        dataset="PACS", n_envs=4, trial_seed=1, args={"label_noise": "a lot"}
    )
    (table, _) = tables_of(mixed).tables
    assert table.caveats == ("label noise a lot (in some of the runs)",), "a record of somebody else"


def test_every_format_says_how_runs_were_made():
    args = {"split": "frame", "reals": "partitioned", "train_fraction": 0.15, "allow_leakage": True}
    tables = tables_of(each_env(dataset="SynthFake", n_envs=4, args=args))
    for info in FORMATS:
        content = load(info.target)(tables)
        if info.suffix == ".parquet":
            content = " ".join(set(pd.read_parquet(io.BytesIO(content))["caveats"]))
        for said in (
            "frame split: frames of one video on both sides",
            "reals partitioned",
            r"15 \% of the training part" if info.suffix == ".tex" else "15 % of the training part",
            "leakage allowed",
        ):
            assert said in content, info.name


def one_row(columns, name):
    cells = (None,) * len(columns)
    return Tables(1, (Table("a_b", IID, ACCURACY, columns, (Row(name, name, cells, None),)),))


def test_latex_names_are_escaped_and_never_cut():
    tables = one_row(("+90%", "SC_group_1 & more than wide"), "IB_ERM")
    latex = render_latex(tables)
    assert r"\textbf{+90\%}" in latex
    assert r"\textbf{SC\_group\_1 \& more than wide} &" in latex
    assert "\nIB\\_ERM " in latex
    assert r"\subsubsection{a\_b}" in latex
    cut = render_latex(tables, compat=UPSTREAM)
    assert r"\textbf{SC_group_1 & & " in cut, "upstream cuts inside the command"


def test_every_latex_special_character_is_printable():
    assert escape("a\\b~^#${}") == r"a\textbackslash{}b\textasciitilde{}\textasciicircum{}\#\$\{\}"


def test_a_long_name_widens_the_text_table_unless_compat():
    tables = one_row(("x" * 30,), "A")
    assert "x" * 30 in render_text(tables)
    assert "x" * 20 + "  Avg" in render_text(tables, compat=UPSTREAM)


def test_a_frame_split_is_said_whether_our_trainer_or_upstreams_noted_it(tmp_path):
    """Upstream's own train has no argument for it: there the split is a hyper-parameter."""
    options = {"split": "frame", "allow_leakage": True}
    for name, args, hparams in (("ours", options, {}), ("stock", {}, options)):
        args = {"dataset": "SynthFake", "algorithm": "ERM", "test_envs": [0], **args}
        args |= {"trial_seed": 0, "hparams_seed": 0}
        record = {"args": args, "hparams": hparams, "step": 0}
        record |= {f"env{i}_{part}_acc": 0.5 for i in range(4) for part in ("in", "out")}
        folder = tmp_path / name / "run"
        folder.mkdir(parents=True)
        (folder / "results.jsonl").write_text(json.dumps(record) + "\n")
        folder = tmp_path / name
        tables = tables_of(load_runs(folder, "acc").runs)
        assert tables.tables[0].caveats == (
            "frame split: frames of one video on both sides",
            "leakage allowed",
        )
