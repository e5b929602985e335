"""Draw the picture at the top of the README, once for light and once for dark pages.

    pip install '.[report]'
    python docs/pictures/pipeline.py

The faces are SynthFake's own: a generated person, the real frame and the four manipulations of it.
"""

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

from datasets_ext.synthfake.frames import real_and_fake
from datasets_ext.synthfake.identity import draw_identity
from datasets_ext.synthfake.manipulate import Strengths

ENVIRONMENTS = ("DF", "F2F", "FS", "NT")  # the last one is held out
PEOPLE = (4, 5, 6, 7)  # numbers of generated people, one an environment
WIDTH, HEIGHT = 24.0, 7.6  # of the canvas; all lengths are in its units, y grows upwards
INCHES = 0.435  # of a unit: the smaller, the larger the text is in the picture
ROLES = ("ink", "muted", "card", "edge", "train", "test")
THEMES = {
    "light": ("#1f2328", "#59636e", "#f6f8fa", "#d1d9e0", "#0969da", "#bc4c00"),
    "dark": ("#f0f6fc", "#9198a1", "#151b23", "#3d444d", "#4493f8", "#f0883e"),
}


class Picture:
    """The canvas of one theme, whose colours are called by their roles."""

    def __init__(self, theme):
        self.colour = dict(zip(ROLES, THEMES[theme], strict=True))
        self.figure = plt.figure(figsize=(WIDTH * INCHES, HEIGHT * INCHES), dpi=170)
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, HEIGHT), aspect="equal")
        self.axes.axis("off")

    def text(self, x, y, words, size=9, colour="ink", step=0.5, **options):
        """Text centred on (x, y), further lines below it."""
        for i, line in enumerate(words.split("\n")):
            where = {"ha": "center", "va": "center", "fontsize": size, "color": self.colour[colour]}
            self.axes.text(x, y - step * i, line, **where, **options)

    def card(self, x, width, title, command):
        """A stage of the pipeline, with the command that does it."""
        style = "round,pad=0,rounding_size=0.25"
        colours = {"facecolor": self.colour["card"], "edgecolor": self.colour["edge"]}
        self.axes.add_patch(FancyBboxPatch((x, 1.2), width, 5.2, boxstyle=style, linewidth=1, **colours))
        self.text(x + width / 2, 6.9, title, 11.5, weight="bold")
        self.text(x + width / 2, 0.65, command, 11, "muted", family="monospace")

    def arrow(self, x):
        """From one card to the next."""
        options = {"mutation_scale": 14, "linewidth": 1.8, "color": self.colour["muted"]}
        ends = (x, 3.8), (x + 0.7, 3.8)
        self.axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", shrinkA=0, shrinkB=0, **options))

    def square(self, x, y, width, height, alpha):
        """A filled rectangle from its lower left corner."""
        self.axes.add_patch(
            Rectangle((x, y), width, height, color=self.colour["train"], linewidth=0, alpha=alpha)
        )

    def line(self, xs, ys, colour, **options):
        """A line through the points."""
        self.axes.plot(xs, ys, color=self.colour[colour], **options)

    def face(self, x, y, pixels):
        """An image whose lower left corner is (x, y)."""
        extent = (x, x + 1.05, y, y + 1.05)
        self.axes.imshow(pixels, extent=extent, interpolation="bilinear", zorder=3)
        self.axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))


def data(picture, x):
    """What comes in."""
    datasets = "FaceForensics++\nCeleb-DF v1, v2\nDFDC, DFDC preview\nUADFV\nDeepfakeBench frames"
    picture.text(x + 2, 5.85, datasets, step=0.52)
    own = "your own videos\nyour own photographs\nor generated faces"
    picture.text(x + 2, 2.75, own, colour="muted", step=0.52)


def environments(picture, x):
    """A real and a fake of each environment, and what each is for."""
    picture.text(x + 1.95, 6.1, "real", colour="muted")
    picture.text(x + 3.35, 6.1, "fake", colour="muted")
    for i, (name, person) in enumerate(zip(ENVIRONMENTS, PEOPLE, strict=True)):
        y = 4.75 - 1.14 * i
        use = "test" if name == ENVIRONMENTS[-1] else "train"
        real, fake = real_and_fake(draw_identity(0, person), 0, name, person, 1, 128, Strengths())
        picture.face(x + 1.4, y, real[0])
        picture.face(x + 2.8, y, fake[0])
        picture.text(x + 0.72, y + 0.52, name, 10, use, weight="bold")
        picture.text(x + 4.65, y + 0.52, use, colour=use)


def training(picture, x):
    """What trains."""
    picture.text(x + 2, 5.85, "RoGA", 13, "train", weight="bold")
    picture.text(x + 2, 5.25, "SAM, ASAM,\nGSAM, SAGM,\nERM, IRM, CORAL, …")
    picture.line((x + 0.6, x + 3.4), (3.8, 3.8), "edge", linewidth=1)
    picture.text(x + 2, 3.35, "on a DomainBed\ncheckout, or on the\nembedded engine", colour="muted")
    picture.text(x + 2, 1.65, "AUC, AP, EER, …")


def sweep(picture, x):
    """Jobs: algorithms by held-out environments, and what each writes."""
    picture.text(x + 2, 5.95, "algorithms × held-out\nenvironments × trials", 8, step=0.45)
    for row in range(4):
        for column in range(4):
            for depth, alpha in ((2, 0.3), (1, 0.5), (0, 0.95)):
                place = x + 0.78 + 0.66 * column + 0.08 * depth, 4.55 - 0.56 * row + 0.08 * depth
                picture.square(*place, 0.42, 0.36, alpha)
    picture.text(x + 2, 2.15, "results.jsonl\nscores.parquet", family="monospace")


def tables(picture, x):
    """A table, its shape and not its numbers, and curves."""
    picture.text(x + 2, 6.0, "mean ± error over trials", 8)
    for column, name in enumerate((*ENVIRONMENTS, "Avg")):
        picture.text(x + 1.2 + 0.58 * column, 5.45, name, 7, weight="bold")
    for row, name in enumerate(("ERM", "SAM", "SAGM", "RoGA")):
        y = 5.0 - 0.42 * row
        picture.text(x + 0.5, y, name, 7)
        for column in range(5):
            picture.square(x + 0.97 + 0.58 * column, y - 0.12, 0.46, 0.24, 0.75 if column == 4 else 0.4)
    left, bottom, side = x + 1.05, 1.5, 1.75
    picture.line((left, left, left + side), (bottom + side, bottom, bottom), "muted")
    grid = [i / 40 for i in range(41)]
    for power, colour in ((0.12, "train"), (0.45, "test")):
        picture.line([left + side * t for t in grid], [bottom + side * t**power for t in grid], colour)
    picture.text(left + 1.15, bottom + 0.4, "ROC", 8, "muted")


STAGES = (
    (4.0, "Videos and images", "prepare", data),
    (5.4, "Environments, no leaks", "audit", environments),
    (4.0, "Training", "train", training),
    (4.0, "Sweep and records", "sweep launch", sweep),
    (4.0, "Tables and report", "report", tables),
)

if __name__ == "__main__":
    mpl.use("agg")
    for theme in THEMES:
        picture, x = Picture(theme), 0.1
        for width, title, command, contents in STAGES:
            if contents is not data:
                picture.arrow(x - 0.65)
            picture.card(x, width, title, command)
            contents(picture, x)
            x += width + 0.6
        path = Path(__file__).with_name(f"pipeline-{theme}.png")
        picture.figure.savefig(path, transparent=True)
        # A palette PNG with a transparent ground.
        Image.open(path).quantize(128, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)
