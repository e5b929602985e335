"""The page of files of scores: its figures are drawn, of probabilities and of any other scores."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from roga_domainbed.report.figures.detection import score_figures
from roga_domainbed.report.figures.drawing import inline_svg
from roga_domainbed.report.figures.figure import Line
from roga_domainbed.report.scores import Scores


@pytest.mark.parametrize("scores", [[0.1, 0.4, 0.6, 0.9], [-3.0, 5.0, 0.5, 9.0], [2.0] * 4])
def test_histograms_span_the_scores(scores):
    own = Scores(np.array(scores), np.array([0, 0, 1, 1]), np.arange(4), False, np.arange(4))
    line = Line("a", 0)
    *_, histograms = score_figures({"DF": {line: [own]}}, [line], "", "")
    drawing = inline_svg(histograms.panels[0], "x")
    assert ("probability of fake" in drawing) == (scores[0] == 0.1)
