"""Draw the picture at the top of the README, once for light and once for dark pages.

    pip install '.[report]'
    python docs/pictures/pipeline.py

The faces are SynthFake's own: a generated person, the real frame and the four manipulations of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

from datasets_ext.synthfake.frames import real_and_fake
from datasets_ext.synthfake.identity import draw_identity
from datasets_ext.synthfake.manipulate import Strengths

HERE = Path(__file__).parent
ENVIRONMENTS = ("DF", "F2F", "FS", "NT")
HELD_OUT = "NT"
PEOPLE = (4, 5, 6, 7)  # numbers of generated people, one an environment
WIDTH, HEIGHT = 24.0, 7.6  # of the canvas, in its own units
INCHES = 0.435  # of a unit: the smaller, the larger the text is in the picture
DPI = 170


@dataclass(frozen=True)
class Theme:
    """Colours of one variant."""

    name: str
    ink: str
    muted: str
    card: str
    edge: str
    train: str
    test: str


LIGHT = Theme("light", "#1f2328", "#59636e", "#f6f8fa", "#d1d9e0", "#0969da", "#bc4c00")
DARK = Theme("dark", "#f0f6fc", "#9198a1", "#151b23", "#3d444d", "#4493f8", "#f0883e")


class Picture:
    """The canvas of one theme; every length is in its units, y grows upwards."""

    def __init__(self, theme: Theme):
        self.theme = theme
        self.figure = plt.figure(figsize=(WIDTH * INCHES, HEIGHT * INCHES), dpi=DPI)
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, HEIGHT), aspect="equal")
        self.axes.axis("off")

    def text(self, x: float, y: float, words: str, size: float = 9, **options) -> None:
        """Text centred on (x, y)."""
        options = {"ha": "center", "va": "center", "color": self.theme.ink, **options}
        self.axes.text(x, y, words, fontsize=size, **options)

    def card(self, x: float, width: float, title: str, command: str) -> None:
        """A stage of the pipeline, with the command that does it."""
        style = "round,pad=0,rounding_size=0.25"
        colours = {"facecolor": self.theme.card, "edgecolor": self.theme.edge}
        self.axes.add_patch(FancyBboxPatch((x, 1.2), width, 5.2, boxstyle=style, linewidth=1, **colours))
        self.text(x + width / 2, 6.9, title, 11.5, weight="bold")
        self.text(x + width / 2, 0.65, command, 11, family="monospace", color=self.theme.muted)

    def arrow(self, x: float) -> None:
        """From one card to the next."""
        ends = ((x, 3.8), (x + 0.7, 3.8))
        options = {"arrowstyle": "-|>", "mutation_scale": 14, "linewidth": 1.8, "color": self.theme.muted}
        self.axes.add_patch(FancyArrowPatch(*ends, shrinkA=0, shrinkB=0, **options))

    def square(self, x: float, y: float, width: float, height: float, colour: str, **options) -> None:
        """A filled rectangle from its lower left corner."""
        self.axes.add_patch(Rectangle((x, y), width, height, color=colour, **{"linewidth": 0, **options}))

    def face(self, x: float, y: float, side: float, pixels) -> None:
        """An image whose lower left corner is (x, y)."""
        self.axes.imshow(pixels, extent=(x, x + side, y, y + side), interpolation="bilinear", zorder=3)
        self.axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))

    def save(self) -> Path:
        """A palette PNG with a transparent ground."""
        path = HERE / f"pipeline-{self.theme.name}.png"
        self.figure.savefig(path, transparent=True)
        plt.close(self.figure)
        Image.open(path).quantize(128, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)
        return path


def data(picture: Picture, x: float) -> None:
    """What comes in."""
    lines = ("FaceForensics++", "Celeb-DF v1, v2", "DFDC, DFDC preview", "UADFV", "DeepfakeBench frames")
    for i, line in enumerate(lines):
        picture.text(x + 2, 5.85 - 0.52 * i, line)
    for i, line in enumerate(("your own videos", "your own photographs", "or generated faces")):
        picture.text(x + 2, 2.75 - 0.52 * i, line, color=picture.theme.muted)


def environments(picture: Picture, x: float) -> None:
    """A real and a fake of each environment, and what each is for."""
    for column, words in ((1.95, "real"), (3.35, "fake")):
        picture.text(x + column, 6.1, words, 9, color=picture.theme.muted)
    for i, name in enumerate(ENVIRONMENTS):
        y = 4.75 - 1.14 * i
        held_out = name == HELD_OUT
        colour = picture.theme.test if held_out else picture.theme.train
        real, fake = real_and_fake(draw_identity(0, PEOPLE[i]), 0, name, PEOPLE[i], 1, 128, Strengths())
        picture.face(x + 1.4, y, 1.05, real[0])
        picture.face(x + 2.8, y, 1.05, fake[0])
        picture.text(x + 0.72, y + 0.52, name, 10, color=colour, weight="bold")
        picture.text(x + 4.65, y + 0.52, "test" if held_out else "train", color=colour)


def training(picture: Picture, x: float) -> None:
    """What trains."""
    picture.text(x + 2, 5.85, "RoGA", 13, weight="bold", color=picture.theme.train)
    for i, line in enumerate(("SAM, ASAM,", "GSAM, SAGM,", "ERM, IRM, CORAL, …")):
        picture.text(x + 2, 5.25 - 0.5 * i, line)
    picture.axes.plot((x + 0.6, x + 3.4), (3.8, 3.8), color=picture.theme.edge, linewidth=1)
    for i, line in enumerate(("on a DomainBed", "checkout, or on the", "embedded engine")):
        picture.text(x + 2, 3.35 - 0.5 * i, line, color=picture.theme.muted)
    picture.text(x + 2, 1.65, "AUC, AP, EER, …")


def sweep(picture: Picture, x: float) -> None:
    """Jobs: algorithms by held-out environments, and what each writes."""
    picture.text(x + 2, 5.95, "algorithms × held-out", 8)
    picture.text(x + 2, 5.5, "environments × trials", 8)
    for row in range(4):
        for column, _ in enumerate(ENVIRONMENTS):
            for depth in (2, 1, 0):
                place = (x + 0.78 + 0.66 * column + 0.08 * depth, 4.55 - 0.56 * row + 0.08 * depth)
                picture.square(*place, 0.42, 0.36, picture.theme.train, alpha=(0.95, 0.5, 0.3)[depth])
    picture.text(x + 2, 2.15, "results.jsonl", 9, family="monospace")
    picture.text(x + 2, 1.65, "scores.parquet", 9, family="monospace")


def tables(picture: Picture, x: float) -> None:
    """A table, its shape and not its numbers, and curves."""
    picture.text(x + 2, 6.0, "mean ± error over trials", 8)
    for column, name in enumerate((*ENVIRONMENTS, "Avg")):
        picture.text(x + 1.2 + 0.58 * column, 5.45, name, 7, weight="bold")
    for row, name in enumerate(("ERM", "SAM", "SAGM", "RoGA")):
        y = 5.0 - 0.42 * row
        picture.text(x + 0.5, y, name, 7)
        for column in range(5):
            strong = 0.75 if column == 4 else 0.4
            picture.square(x + 0.97 + 0.58 * column, y - 0.12, 0.46, 0.24, picture.theme.train, alpha=strong)
    left, bottom, side = x + 1.05, 1.5, 1.75
    picture.axes.plot((left, left, left + side), (bottom + side, bottom, bottom), color=picture.theme.muted)
    grid = [i / 40 for i in range(41)]
    for power, colour in ((0.12, picture.theme.train), (0.45, picture.theme.test)):
        picture.axes.plot(
            [left + side * t for t in grid], [bottom + side * t**power for t in grid], color=colour
        )
    picture.text(left + 1.15, bottom + 0.4, "ROC", 8, color=picture.theme.muted)


def draw(theme: Theme) -> Path:
    """The whole picture in one theme."""
    picture = Picture(theme)
    stages = (
        (4.0, "Videos and images", "prepare", data),
        (5.4, "Environments, no leaks", "audit", environments),
        (4.0, "Training", "train", training),
        (4.0, "Sweep and records", "sweep launch", sweep),
        (4.0, "Tables and report", "report", tables),
    )
    gap, x = 0.6, 0.1
    for i, (width, title, command, contents) in enumerate(stages):
        picture.card(x, width, title, command)
        contents(picture, x)
        x += width
        if i < len(stages) - 1:
            picture.arrow(x + (gap - 0.7) / 2)
        x += gap
    return picture.save()


if __name__ == "__main__":
    mpl.use("agg")
    for theme in (LIGHT, DARK):
        print(draw(theme))
