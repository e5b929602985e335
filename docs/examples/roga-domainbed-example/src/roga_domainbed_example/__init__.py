"""What this package adds to roga-domainbed, by name. Nothing heavy is imported before a name is used."""

from roga_domainbed.catalog import ALGORITHMS, DATASETS, AlgorithmInfo, DatasetInfo
from roga_domainbed.catalog.hparams import HParam, constant
from roga_domainbed.launch import LAUNCHERS, LauncherInfo
from roga_domainbed.report.renderers import RENDERERS, RendererInfo


def register() -> None:
    """Add the rows; the entry point in pyproject.toml names this function."""
    ALGORITHMS.add(
        AlgorithmInfo(
            "LabelSmoothingERM",
            target="roga_domainbed_example.algorithm:LabelSmoothingERM",
            summary="ERM with label smoothing",
            reference="arXiv:1512.00567",
            idea="risk",
            plugin=True,
        )
    )
    DATASETS.add(
        DatasetInfo(
            "TwoMoons",
            ("0", "45", "90"),
            target="roga_domainbed_example.dataset:TwoMoons",
            summary="two half circles in the plane, rotated by degrees",
            plugin=True,
            needs_data_dir=False,
            hparams=(
                HParam("batch_size", 32, constant(32), "minibatch of each training environment"),
                HParam("lr", 1e-2, constant(1e-2), "learning rate"),
                HParam("mlp_width", 32, constant(32), "width of the network for vectors"),
                HParam("mlp_depth", 3, constant(3), "its layers"),
                HParam("mlp_dropout", 0.0, constant(0.0), "its dropout"),
            ),
        )
    )
    LAUNCHERS.add(
        LauncherInfo(
            "one_by_one",
            "roga_domainbed_example.launcher:launch_one_by_one",
            "each job in a fresh process, one after the other",
        )
    )
    RENDERERS.add(
        RendererInfo("averages", "roga_domainbed_example.renderer:render_averages", "one line an algorithm")
    )
