"""The page and the command: what is in it, what is said where something is not, and that names are only names."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_sweep import arguments, write_run, write_sweep
from sklearn.metrics import roc_auc_score

from roga_domainbed.cli import main
from roga_domainbed.report.figures.detection import FALSE_POSITIVE_RATES, mean_roc
from roga_domainbed.report.figures.drawing import inline_svg, save_figure
from roga_domainbed.report.figures.figure import MOST_LINES, Figure, Line, Panel, lines_for
from roga_domainbed.report.figures.training import MOST_POINTS, mean_curve
from roga_domainbed.report.scores import Scores

ROOT = Path(__file__).resolve().parents[2]
VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = '<script>alert("1")</script> & $x_1$ {{ 7*7 }} \x00é'


class Page(HTMLParser):
    """Checks that tags are closed in order; gathers what the tests ask about."""

    def __init__(self, path):
        super().__init__()
        self.open, self.attributes, self.words, self.scripts, self.styles = [], [], [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        where = {"script": self.scripts, "style": self.styles}.get(
            self.open[-1] if self.open else "", self.words
        )
        where.append(data)

    def values(self, name):
        return [value for _, attribute, value in self.attributes if attribute == name]


@pytest.fixture
def no_drawing(monkeypatch):
    """Pages and files without their drawings, which take most of the time: for tests of words and names."""
    monkeypatch.setattr("roga_domainbed.report.html.inline_svg", lambda panel, prefix: "<svg></svg>")
    monkeypatch.setattr("roga_domainbed.report.page.save_figure", lambda figure, path: path.touch())


def report(folder, *flags):
    return main(["report", "--input_dir", str(folder), *map(str, flags)])


def page_of(folder, *flags):
    assert report(folder, "--output", folder.parent / "page.html", *flags) == 0
    return Page(folder.parent / "page.html")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A small sweep with everything a page can show."""
    folder = tmp_path_factory.mktemp("full") / "sweep"
    return write_sweep(folder, algorithms=["ERM", "RoGA"], envs=[0], hparams=2, videos=6, frames=2)


@pytest.fixture(scope="module")
def full_page(full):
    return page_of(full)


def test_the_page_needs_nothing_else(full_page):
    targets = full_page.values("href") + full_page.values("src") + full_page.values("xlink:href")
    assert targets
    assert all(target.startswith("#") for target in targets)
    assert "url(" not in "".join(full_page.styles)
    assert "default-src 'none'" in " ".join(full_page.values("content"))
    assert len(full_page.source.encode()) < 1_000_000


def test_every_id_is_unique_and_every_reference_has_one(full_page):
    ids = full_page.values("id")
    assert len(ids) == len(set(ids))
    references = [target[1:] for target in full_page.values("href") + full_page.values("xlink:href")]
    references += re.findall(r"url\(#([^)]+)\)", full_page.source)
    assert set(references) <= set(ids)


def test_every_section_is_there(full_page):
    for title in (
        "Summary", "Results", "AUC on each held-out environment", "ROC curves", "DET curves",
        "Scores of reals and fakes", "Training curves", "Training loss", "Sharpness and gradient norms",
        "Gradient agreement between domains", "Cost of a step against AUC", "Validation against test",
        "Hyper-parameters", "Sweep health", "Provenance", "Commands",
    ):  # fmt: skip
        assert title in full_page.text, title
    assert full_page.text.count("batch_size = 8") == 1, "what all have in common is in the note"


def test_colours_of_figures_are_those_of_the_page(full_page):
    figures = "".join(re.findall(r"<svg.*?</svg>", full_page.source, re.DOTALL))
    assert "var(--ink)" in figures
    assert not re.search(r"#[0-9a-f]{6}", figures), "a colour that the dark page would keep"


def test_the_axis_of_a_hyper_parameter_drawn_by_its_logarithm_has_numbers(full_page):
    panel = re.search(r'aria-label="Hyper-parameters, lr">.*?</svg>', full_page.source, re.DOTALL)[0]
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", panel)
    assert {"1e\N{MINUS SIGN}05", "0.0001"} <= set(labels)
    assert not any("$" in label for label in labels)


def test_the_commands_train_the_chosen_runs_again(full, full_page):
    commands = re.findall(r"<pre>(.*?)</pre>", full_page.source)
    assert len(commands) == 2
    words = html.unescape(commands[1]).split()
    assert words[:2] == ["roga-domainbed", "train"]
    assert words[words.index("--algorithm") + 1] == "RoGA"
    with pytest.raises(SystemExit):  # as flags they are all known: the last word alone is at fault
        main([*words[1:], "--no_such_flag"])


@pytest.mark.usefixtures("no_drawing")
def test_runs_of_domainbeds_own_script_with_the_plugin_are_repeated_by_it(tmp_path):
    write_run(tmp_path / "sweep", arguments(), steps=(0,), videos=2, scores=False, provenance=False)
    assert "<pre>roga-domainbed upstream train --algorithm ERM" in page_of(tmp_path / "sweep").source


def test_equal_panels_are_equal_to_the_byte():
    panel = Panel("loss", lambda axes: axes.plot([1, 2], [3, 4], marker="o"))
    assert inline_svg(panel, "a-") == inline_svg(panel, "a-")


@pytest.mark.parametrize("height", [1.6, 1.7, 1.8, 1.9])
def test_a_label_stays_within_its_panel_where_the_final_size_has_longer_numbers(height):
    def draw(axes):
        axes.set(ylim=(-0.03, 1.03), ylabel="p(fake)", xlabel="time in s")
        axes.annotate("1", (0.5, 1.02), xycoords="axes fraction", va="bottom", fontsize=7)

    svg = inline_svg(Panel("over time", draw, height), "a-")
    baseline = float(re.search(r'x="([^"]*)"[^>]*>p\(fake\)', svg)[1])
    assert baseline > 0.76 * 8, (
        "letters of 8 points rise by 0.76 of that from their baseline, towards the left edge"
    )


@pytest.mark.usefixtures("no_drawing")
def test_where_records_hold_no_more_than_upstreams_each_section_says_so(tmp_path, sweep_folder):
    page = page_of(sweep_folder("vlcs_sweep"))
    for sentence in (
        "Numbers are the accuracy on the held-out environment",
        "have no stored scores (scores.parquet in the run's folder)",
        "No row that is drawn has a perturbed loss",
        "No row that is drawn has a cosine between the domains' gradients",
        "recorded no versions, backend or split, as with DomainBed's own scripts",
        "No run recorded a hash of its data",
        "There is only one algorithm, so there is no comparison",
    ):
        assert sentence in page.text, sentence
    assert "python -m domainbed.scripts.train" in page.text
    # the numbers are those of upstream's own table
    oracle = (ROOT / "tests/data/report/collect_results.txt").read_text().splitlines()
    cells = next(line for line in oracle if line.startswith("ERM")).split("  ")
    for cell in filter(None, (cell.strip().replace("+/-", "±") for cell in cells)):
        assert cell in page.text


@pytest.mark.usefixtures("no_drawing")
def test_rows_that_curves_leave_out_are_told(tmp_path):
    for name in ("ERM", *(f"Made{number}" for number in range(MOST_LINES))):
        write_run(tmp_path / "sweep", arguments(algorithm=name), steps=(0,), videos=2, scores=False)
    page = page_of(tmp_path / "sweep")
    assert "show 8 of the 9 rows: ERM and the best by their average" in page.text
    places = [page.source.rindex(f">{name}<") for name in ("ERM", "Made0", "Made7")]  # in the table of states
    assert places == sorted(places)


@pytest.mark.usefixtures("no_drawing")
def test_an_oracle_is_named_in_title_rows_captions_and_files(full, tmp_path):
    page = page_of(full, "--select", "oracle", "--figures", tmp_path / "figures", "--figure-format", "svg")
    assert "AUC (oracle)" in re.search("<title>(.*?)</title>", page.source)[1]
    heads = re.findall(r'<th scope="row"[^>]*>(.*?)</th>', page.source)
    assert "RoGA (oracle)" in [re.sub("<.*?>", "", head).strip() for head in heads]
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page.source)
    assert captions
    assert all("oracle" in caption for caption in captions)
    names = "environments roc det scores training loss sharpness alignment cost validation hparams".split()
    files = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert files == sorted(f"{name}_oracle.svg" for name in names)


@pytest.mark.usefixtures("no_drawing")
def test_without_a_name_the_file_of_an_oracle_is_named_after_it(tmp_path):
    write_run(tmp_path, arguments(), steps=(0,), videos=2, scores=False)
    assert report(tmp_path, "--select", "iid", "oracle") == 0
    assert (tmp_path / "report_oracle.html").exists()


def test_names_are_only_names(tmp_path):
    folder = tmp_path / 'sweep "<b>&'
    for algorithm in ("ERM", HOSTILE):
        run = write_run(
            folder, arguments(HOSTILE, algorithm), steps=(0, 1), videos=3, frames=1, scores=algorithm == "ERM"
        )
    text = (run / "results.jsonl").read_text()
    (run / "results.jsonl").write_text(
        text.replace('"lr":', '"</table><img src=x onerror=alert(1)>":') + "{broken\n"
    )
    page = page_of(folder)
    assert len(page.scripts) == 1, "the page's own"
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert "\x00" not in page.source
    assert HOSTILE.replace("\x00", "\ufffd") in page.text
    assert "49" not in re.findall(r"<title>.*?</title>", page.source)[0], "templates inside names are not run"


@pytest.mark.usefixtures("no_drawing")
def test_rows_of_one_algorithm_are_told_apart_on_the_whole_page(tmp_path):
    folder = tmp_path / "sweep"
    for row in ("RoGA, ρ 0.1", "RoGA, ρ 0.05"):
        write_run(folder, arguments(algorithm="RoGA", row=row), videos=4, frames=2)
    write_run(folder, arguments(), videos=4, frames=2)
    page = page_of(folder)
    heads = re.findall(r'<th scope="row"[^>]*>(.*?)</th>', page.source)
    assert heads[:3] == ["ERM", "RoGA, ρ 0.05", "RoGA, ρ 0.1"]
    assert "2 algorithms in 3 rows on SynthFake" in page.text
    legends = re.findall(r'aria-label="Lines">(.*?)</ul>', page.source, re.DOTALL)
    assert re.sub("<.*?>", "", legends[0]).split("\n")[1:-1] == ["ERM", "RoGA, ρ 0.05", "RoGA, ρ 0.1"]
    assert "RoGA, ρ 0.05 on SynthFake: 1 run" in page.text
    assert report(folder, "--rows", "algorithm", "--output", folder.parent / "page.html") == 0
    assert "ρ 0.05" not in re.sub("<pre>.*?</pre>", "", (folder.parent / "page.html").read_text("utf-8"))


def test_long_names_leave_room_for_the_data(tmp_path):
    long = "An_algorithm_with_a_name_of_more_than_sixty_letters_is_a_sentence"
    write_run(tmp_path / "sweep", arguments(algorithm=long), steps=(0,), videos=2, scores=False)
    page = page_of(tmp_path / "sweep")
    panel = re.search(r'id="d1-environments">.*?</svg>', page.source, re.DOTALL)[0]
    assert "An_algorithm…_sentence</text>" in panel
    assert f">{long}</th>" in page.source


@pytest.mark.parametrize(
    ("suffix", "head", "n_panels"), [("pdf", b"%PDF", 1), ("svg", b"<?xml", 1), ("png", b"\x89PNG", 4)]
)
def test_figures_are_files_too(tmp_path, suffix, head, n_panels):
    panels = tuple(Panel(HOSTILE[:20], lambda axes: axes.plot([1, 2], [3, 4])) for _ in range(n_panels))
    figure = Figure("loss", "Loss", "", panels, (Line("ERM", 0), Line("$x_1$", 1)))
    path = tmp_path / f"loss.{suffix}"
    path.write_text("an earlier one")
    save_figure(figure, path)
    assert path.read_bytes().startswith(head)
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_names_in_a_file_are_only_names(tmp_path):
    panel = Panel("a\x1b[31m\n$x_1$", lambda axes: axes.plot([1, 2], [3, 4]))
    save_figure(
        Figure("loss", "Loss", "", (panel,), (Line("_mine", 0), Line("\x00", 1))), tmp_path / "loss.svg"
    )
    words = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "loss.svg").read_text("utf-8"))
    assert words[-3:] == ["a\\x1b[31m\\n$x_1$", "\u200b_mine", "\\x00"]


def test_the_main_table_is_one_figure_with_one_scale(tmp_path):
    folder = write_sweep(tmp_path / "sweep", algorithms=["ERM", "SAM"], steps=(0,), videos=4, frames=1)
    page = page_of(folder)
    section = re.search(r'id="d1-environments">.*?</figure>', page.source, re.DOTALL)[0]
    assert section.count("<svg viewBox") == 1
    words = re.findall(r"<text[^>]*>([^<]*)</text>", section)
    assert [word for word in words if word in {"DF", "F2F", "FS", "NT", "ERM", "SAM"}] == [
        "DF", "ERM", "SAM", "F2F", "ERM", "SAM", "FS", "ERM", "SAM", "NT", "ERM", "SAM"
    ]  # fmt: skip


@pytest.mark.usefixtures("no_drawing")
def test_curves_and_intervals_are_of_the_step_that_each_rule_chose(tmp_path):
    folder = write_sweep(tmp_path / "sweep", algorithms=["ERM", "SAM"], envs=[0], videos=4, frames=2)
    for run in folder.iterdir():
        best = json.dumps({"env1_out_auc": 3.0})[1:-1]  # at the second of four steps, for validation
        lines = (run / "results.jsonl").read_text().splitlines()
        lines[1] = re.sub(r'"env1_out_auc": [0-9.]+', best, lines[1])
        (run / "results.jsonl").write_text("\n".join(lines) + "\n")
    page = page_of(folder, "--select", "iid", "last")
    assert page.text.count("Scores of the chosen runs at the step that the rule chose.") == 3
    assert len(re.findall(r"<small>[0-9.]+ to [0-9.]+ v</small>", page.source)) == 4, (
        "of both rules and algorithms"
    )


@pytest.mark.usefixtures("no_drawing")
def test_runs_of_the_first_version_have_no_curve_of_an_earlier_step(tmp_path):
    folder = write_sweep(
        tmp_path / "sweep", algorithms=["ERM"], envs=[0, 1], videos=4, frames=2, first_version=True
    )
    run = min(folder.iterdir())
    lines = (run / "results.jsonl").read_text().splitlines()
    lines[1] = re.sub(r'"env[23]_out_auc": [0-9.]+', lambda found: found[0].split(":")[0] + ": 3.0", lines[1])
    (run / "results.jsonl").write_text("\n".join(lines) + "\n")
    page = page_of(folder)
    assert page.text.count("1 of 2 runs have none of that step and are not in the figure.") == 3
    assert (
        "no stored scores of the step that the rule chose; an interval over trials needs 3, not 1"
        in page.text
    )


@pytest.mark.usefixtures("no_drawing")
def test_one_trial_has_no_error_and_a_table_without_a_number_is_a_sentence(tmp_path):
    folder = write_sweep(tmp_path / "sweep", algorithms=["ERM"], steps=(0,), scores=False)
    page = page_of(folder, "--select", "iid", "loo")
    results = re.search('id="results">.*?</section>', page.source, re.DOTALL)[0]
    assert re.findall(r"<td[^>]*>[^<]*±", results) == []
    assert ">X<" not in page.source
    assert (
        "cross-validation, metric: auc: no table, because no run holds out a pair of environments"
        in page.text
    )


@pytest.mark.usefixtures("no_drawing")
def test_what_the_summary_says_it_says_once(tmp_path):
    folder = write_sweep(tmp_path / "sweep", steps=(0,), scores=False)
    page = page_of(folder)
    summary = re.search('id="summary">.*?</section>', page.source, re.DOTALL)[0]
    assert summary.count("Too few trials") == 1


@pytest.mark.usefixtures("no_drawing")
def test_words_of_the_page_are_explained_on_it(full_page):
    for word in ("in-split, out-split", "oracle", "trial", "backend, engine", "recording", "hparams seed"):
        assert f"<dt>{word}</dt>" in full_page.source


@pytest.mark.usefixtures("no_drawing")
def test_a_full_disk_is_an_error_that_names_the_file(full, capsys, monkeypatch):
    assert report(full, "--output", "/dev/full") == 1
    assert "No space left on device: /dev/full" in capsys.readouterr().err
    assert Path("/dev/full").is_char_device()


def test_a_setting_of_matplotlib_in_the_environment_does_not_matter(tmp_path):
    folder = write_sweep(tmp_path / "sweep", algorithms=["ERM"], envs=[0], steps=(0,), videos=2, frames=1)
    environment = {**os.environ, "MPLBACKEND": "nope", "PYTHONIOENCODING": "ascii"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "roga_domainbed", "report", "--input_dir", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("no_drawing")
def test_an_unfinished_run_is_noted_below_its_table_and_named_with_the_step_of_its_last_record(tmp_path):
    folder = write_sweep(tmp_path / "sweep", algorithms=["ERM"], envs=[0], scores=False)
    run = write_run(folder, arguments("SynthFake", "SAM"), steps=(0, 40), scores=False, done=False)
    page = page_of(folder)
    assert "1 run has not finished: see Sweep health." in page.text
    assert f"{run} : SAM on SynthFake, test envs 0: interrupted; last record at step 40" in page.text


def test_a_folder_without_records_is_one_sentence(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    assert report(tmp_path) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"roga-domainbed report: error: no records under '{tmp_path}'")
    assert err.count("\n") == 1
    (tmp_path / "run" / "results.jsonl").write_bytes(b"\x00\xff{\n[1]\n")
    assert report(tmp_path) == 2
    assert "line 1: not a JSON record" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.usefixtures("no_drawing")
def test_damaged_runs_are_named_on_the_page_of_the_others(tmp_path):
    folder = write_sweep(tmp_path / "sweep", algorithms=["ERM"], envs=[0], steps=(0,), videos=3)
    run = next(folder.iterdir())
    with open(run / "results.jsonl", "a") as file:
        file.write('{"args": {"test_envs"\n')
    (run / "scores.parquet").write_bytes(b"")
    (folder / "gone").mkdir()
    (folder / "gone" / "job.json").write_text(
        json.dumps(
            {"argv": ["--dataset", "SynthFake", "--algorithm", "SAM", "--test_envs", "1", "--row", "SAM, ρ 0.1"],
             "exit_code": 3, "started": 0, "seconds": 1, "host": "h", "pid": 1}
        )
    )  # fmt: skip
    page = page_of(folder)
    assert "line 2: not a JSON record, skipped" in page.text
    assert "The stored scores cannot be used: " in page.text
    assert "SAM, ρ 0.1 on SynthFake, test envs 1: failed, exited with 3; no records" in page.text


FAULTS = [
    (["--metric", "acu"], "unknown metric 'acu' (did you mean 'auc'?)"),
    (["--select", "idd"], "unknown selection rule 'idd' (did you mean 'iid'?)"),
    (["--baseline", "erm"], "unknown row of these tables 'erm' (did you mean 'ERM'?)"),
    (["--output", "no/such/folder/report.html"], "the folder 'no/such/folder' does not exist"),
    (["--output", "."], "--output '.' is a folder"),
]


@pytest.mark.parametrize(("flags", "message"), FAULTS, ids=[flags[0] for flags, _ in FAULTS])
def test_faults_are_found_before_anything_is_drawn(full, flags, message, capsys):
    assert report(full, *flags) == 2
    assert message in capsys.readouterr().err


def test_a_missing_extra_is_named(full, monkeypatch, capsys):
    monkeypatch.setattr(
        "roga_domainbed.cli.report.find_spec", lambda name: None if name == "jinja2" else True
    )
    assert report(full) == 2
    assert (
        "report needs the package 'Jinja2': pip install 'roga-domainbed[report]'" in capsys.readouterr().err
    )


def test_an_averaged_roc_keeps_the_area_of_its_trials():
    rng = np.random.RandomState(0)
    trials, areas = [], []
    for _ in range(3):
        labels = np.repeat([0, 1], 400)
        scores = rng.randn(800) + labels
        trials.append(Scores(scores, labels, labels, True, labels))
        areas.append(roc_auc_score(labels, scores))
    area = np.trapezoid(mean_roc(trials), FALSE_POSITIVE_RATES)
    assert area == pytest.approx(np.mean(areas), abs=2e-3)
    assert mean_roc([Scores(scores[:4], labels[:4], labels[:4], True, labels[:4])]) is None, "one class"


def test_a_curve_is_the_mean_where_all_runs_have_a_number_thinned_out():
    runs = [[{"step": s, "loss": float(s + k)} for s in range(1000 + k)] for k in (0, 2)]
    steps, values = mean_curve(runs, lambda record: record["loss"])
    assert len(steps) <= MOST_POINTS
    assert (steps[0], steps[-1]) == (0, 999)
    assert (values == steps + 1).all()
    assert mean_curve([[{"step": 0}]], lambda record: float("nan")) is None


def test_too_many_lines_are_the_baseline_and_the_best():
    names = [f"A{i}" for i in range(12)]
    lines = lines_for(names, {name: i for i, name in enumerate(names)}, "A0")
    assert [line.label for line in lines] == ["A0", *names[-MOST_LINES + 1 :]]


@pytest.mark.slow
def test_a_wide_table_on_a_narrow_screen_says_that_it_goes_on(full_page, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    (tmp_path / "page.html").write_text(full_page.source, encoding="utf-8")
    shown = {}
    for width in (500, 1280):
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
        command += [
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            (tmp_path / "page.html").as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        shown[width] = done.stdout.count('class="scroll-hint shown"')
        assert done.stdout.count('class="scroll more"') == shown[width]
    assert shown[500] > shown[1280]


@pytest.mark.slow
def test_a_browser_sorts_by_any_column_and_has_no_complaint(full_page, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    source = full_page.source
    click = (
        "<script>const heads = document.querySelectorAll('table.data')[0].querySelectorAll('thead button');"
        "heads[1].click(); heads[1].click();</script></body>"
    )
    (tmp_path / "clicked.html").write_text(source.replace("</body>", click), encoding="utf-8")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command += ["--enable-logging=stderr", "--dump-dom", (tmp_path / "clicked.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    table = re.search('<table class="data".*?</table>', done.stdout, re.DOTALL)[0]
    assert re.findall('aria-sort="([a-z]*)"', table)[:2] == ["none", "descending"]
    rows = re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1], re.DOTALL)
    values = [float(re.findall('data-sort="([^"]*)"', row)[1]) for row in rows]
    assert values == sorted(values, reverse=True)
