"""The methods that make heat maps, a row each; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        title: as its paper writes it.
        class_name: of the package ``grad-cam``.
    """

    title: str
    class_name: str


METHODS = {
    "gradcam": Method("Grad-CAM", "GradCAM"),
    "layercam": Method("LayerCAM", "LayerCAM"),
    "hirescam": Method("HiResCAM", "HiResCAM"),
}
