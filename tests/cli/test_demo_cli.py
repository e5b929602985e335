"""What the demo does after its tables."""

from pathlib import Path

from roga_domainbed.cli import demo


def test_without_the_extra_one_line_says_how_to_get_the_report(monkeypatch, capsys):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert demo._report("out/sweep", Path("out/report.html")) == 0
    assert capsys.readouterr().out == (
        "\nFor the HTML report: pip install 'roga-domainbed[report]'; roga-domainbed report "
        "--input_dir out/sweep --output out/report.html --metric auc\n"
    )


def test_with_it_the_report_is_written(monkeypatch):
    called = []
    monkeypatch.setattr(demo, "_command", lambda name, options: called.append((name, options)) or 0)
    assert demo._report("out/sweep", Path("out/report.html")) == 0
    assert called == [
        ("report", {"--input_dir": "out/sweep", "--output": "out/report.html", "--metric": "auc"})
    ]
