"""The loss along the ascent direction as a figure: a panel an environment, a line a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from roga_domainbed.report.figures.figure import Figure, Line, Panel
from roga_domainbed.report.figures.style import MUTED, line_style

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.sharpness import Curve, Sharpness


def ascent_figure(found: Sharpness) -> Figure:
    """``found`` as a figure."""
    lines = [Line(name, slot) for slot, name in enumerate(found.curves)]
    by_name: dict[str, list[tuple[Line, Curve]]] = {}
    for line in lines:
        for curve in found.curves[line.label]:
            by_name.setdefault(curve.name, []).append((line, curve))
    return Figure(
        "sharpness",
        "Loss along the ascent direction",
        "Mean cross-entropy on training images in evaluation mode, at θ + t g/‖g‖. The pooled loss goes along its own "
        f"gradient g, and each environment's along its own. Dotted: ρ = {found.rho:g}, where the sharpness is taken: "
        "loss there less loss at θ.",
        tuple(Panel(name, lambda axes, own=own: _draw(axes, found, own)) for name, own in by_name.items()),
        tuple(lines),
    )


def _draw(axes: Axes, found: Sharpness, own: list[tuple[Line, Curve]]) -> None:
    axes.axvline(found.rho, color=MUTED, lw=0.8, ls=(0, (1.2, 1.2)))
    for line, curve in own:
        axes.plot(found.distances, curve.losses, **line_style(line))
    axes.set(xlabel="distance t from θ", ylabel="loss", xlim=(0, found.distances[-1]))
    axes.locator_params(axis="x", nbins=5)  # numbers of three decimals are wide
    low, high = axes.get_ylim()
    axes.set_ylim(min(0.0, low) if low < 0.3 * high else low, high)
