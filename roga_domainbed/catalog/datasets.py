"""The datasets by name, a row each, in the order of the result tables: DomainBed's first, then ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from roga_domainbed.catalog.hparams import HParam, Sampler, constant, log_uniform, log_uniform_int
from roga_domainbed.catalog.registry import Registry, load
from roga_domainbed.catalog.shared_hparams import FACE_HPARAMS, backbone_hparams

#: What ``--task``, ``--split`` and ``--eval_parts`` may be.
TASKS = ("domain_generalization", "domain_adaptation")
SPLIT_MODES = ("official", "group", "frame")
EVAL_PARTS = ("all", "needed")


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset: a list of environments under one name.

    Attributes:
        name: the registered name.
        environments: their names, in index order; the columns of result tables.
        target: ``"module:Class"``; None where only an upstream checkout has it.
        summary: one line.
        plugin: True if the class is ours on either backend.
        small_images: DomainBed's ``SMALL_IMAGES`` family of lr, weight decay and batch size.
        needs_data_dir: whether ``--data_dir`` must be given.
        hparams: hyper-parameters this dataset adds or overrides.
        made_if_missing: whether its class makes or downloads it where it is missing.
    """

    name: str
    environments: tuple[str, ...]
    target: str | None = None
    summary: str = ""
    plugin: bool = False
    small_images: bool = False
    needs_data_dir: bool = True
    hparams: tuple[HParam, ...] = ()
    made_if_missing: bool = False

    @property
    def folder(self) -> str:
        """Where it lies below ``--data_dir``, with forward slashes."""
        return _FOLDERS.get(self.name, self.name)

    @property
    def is_tree(self) -> bool:
        """Whether it has its row from ``add_tree``."""
        return self.target is not None and self.target.startswith(f"{_OF_TREES}:")

    @property
    def trees(self) -> tuple[str, ...]:
        """The folders below ``--data_dir`` that it is read from: ``folder``, or those of the ``SOURCES`` of its class.

        Looking imports the class of a plugin's dataset, and torch with it.
        """
        sources = getattr(load(self.target), "SOURCES", ()) if self.plugin and self.target else ()
        return tuple(dict.fromkeys(source.tree for source in sources)) or (self.folder,)


#: Has the classes of prepared trees as its attributes.
_OF_TREES = "datasets_ext.trees"

#: Upstream's own names for the folders of these datasets; all others lie in a folder of their name.
_FOLDERS = {
    "ColoredMNIST": "MNIST",
    "RotatedMNIST": "MNIST",
    "OfficeHome": "office_home",
    "TerraIncognita": "terra_incognita",
    "DomainNet": "domain_net",
    "SVIRO": "sviro",
    "WILDSCamelyon": "camelyon17_v1.0",
    "WILDSFMoW": "fmow_v1.1",
}


DATASETS: Registry[DatasetInfo] = Registry("dataset")


def _scale(
    lr: tuple[float, Sampler], weight_decay: tuple[float, Sampler], batch_size: tuple[int, Sampler]
) -> tuple[HParam, ...]:
    """The three that depend on the size of the images, each as (default, sampler)."""
    return (
        HParam("lr", *lr, "learning rate of the base optimizer", above=0),
        HParam("weight_decay", *weight_decay, "L2 weight decay of the base optimizer", at_least=0),
        HParam(
            "batch_size", *batch_size, "minibatch of each training environment", at_least=1, at_most=2**16
        ),
    )


_FROM_A_CHECKOUT = "from a DomainBed checkout"

for _name, _environments, _small, _needs_data_dir, _summary in (
    ("Debug28", "0 1 2", True, False, "random 28x28 images, for tests"),
    ("Debug224", "0 1 2", False, False, "random 224x224 images, for tests"),
    ("ColoredMNIST", "+90% +80% -90%", True, True, "digits whose colour predicts the label"),
    ("RotatedMNIST", "0 15 30 45 60 75", True, True, "digits rotated by degrees"),
    ("VLCS", "C L S V", False, True, "photographs, 5 classes"),
    ("PACS", "A C P S", False, True, "art, cartoons, photographs, sketches, 7 classes"),
    ("OfficeHome", "A C P R", False, True, "office objects, 65 classes"),
    ("TerraIncognita", "L100 L38 L43 L46", False, True, "camera traps, 10 classes"),
    ("DomainNet", "clip info paint quick real sketch", False, True, "six styles, 345 classes"),
    ("SVIRO", "aclass escape hilux i3 lexus tesla tiguan tucson x5 zoe", False, True, "car interiors"),
):
    DATASETS.add(
        DatasetInfo(
            _name,
            tuple(_environments.split()),
            target=f"roga_domainbed.engine.datasets:{_name}",
            summary=_summary,
            small_images=_small,
            needs_data_dir=_needs_data_dir,
            made_if_missing="MNIST" in _name,
        )
    )
for _name, _environments in (
    ("WILDSCamelyon", [f"hospital_{i}" for i in range(5)]),
    ("WILDSFMoW", [f"region_{i}" for i in range(6)]),
    *(
        (f"Spawrious{kind}_{level}", ["Test", "SC_group_1", "SC_group_2"])
        for kind in ("O2O", "M2M")
        for level in ("easy", "medium", "hard")
    ),
):
    DATASETS.add(DatasetInfo(_name, tuple(_environments), summary=_FROM_A_CHECKOUT))

DATASETS.add(
    DatasetInfo(
        "SynthFake",
        ("DF", "F2F", "FS", "NT"),
        target="datasets_ext.synthfake.dataset:SynthFake",
        summary="generated faces with four look-alike manipulations; needs no download",
        plugin=True,
        made_if_missing=True,
        hparams=(
            *_scale(
                lr=(3e-3, log_uniform(10, -3.5, -2)),
                weight_decay=(0.0, constant(0.0)),
                batch_size=(16, log_uniform_int(2, 3, 5.5)),
            ),
            # MesoNet drops half; with so little data that delays the first thing learnt by a hundred steps.
            *backbone_hparams("meso4", pretrained=False, image_size=64, meso4_dropout=0.2),
        ),
    )
)
for _name, _module, _summary in (
    ("FFPP", "ffpp", "FaceForensics++ c23 (light compression), one environment a manipulation"),
    ("FFPP_c40", "ffpp", "FaceForensics++ c40 (strong compression), one environment a manipulation"),
    ("FFPP_raw", "ffpp", "FaceForensics++ without compression, one environment a manipulation"),
    ("SelfBlend", "selfblend.dataset", "your face photographs with four look-alike manipulations"),
):
    DATASETS.add(
        DatasetInfo(
            _name,
            ("DF", "F2F", "FS", "NT"),
            target=f"datasets_ext.{_module}:{_name}",
            summary=_summary,
            plugin=True,
            hparams=FACE_HPARAMS,
        )
    )
for _name, _environments, _summary in (
    ("DeepfakeDatasets", "FFPP CelebDF2 DFDC DFDCP UADFV", "five datasets, one environment each"),
    (
        "FFPPCross",
        "DF F2F FS NT CelebDF1 CelebDF2 UADFV DFDC DFDCP",
        "FaceForensics++ c23 by manipulation, and five other datasets to test on",
    ),
    (
        "FFPPSeen",
        "DF F2F FS NT DF_test F2F_test FS_test NT_test",
        "FaceForensics++ c23, and once more to test on manipulations that were trained on: --test_envs 4 5 6 7",
    ),
    (
        "FFPPSeenCross",
        "DF F2F FS NT DF_test F2F_test FS_test NT_test UADFV CelebDF1",
        "FFPPSeen with two other datasets to test on: --test_envs 4 5 6 7 8 9",
    ),
    (
        "FFPPDownload",
        "DF F2F FS NT FaceShifter DFD",
        "FaceForensics++ c23 by manipulation, with FaceShifter and DeepFakeDetection of the same download",
    ),
):
    DATASETS.add(
        DatasetInfo(
            _name,
            tuple(_environments.split()),
            target=f"datasets_ext.combined:{_name}",
            summary=_summary,
            plugin=True,
            hparams=FACE_HPARAMS,
        )
    )


def add_tree(name: str, environments: Iterable[str]) -> None:
    """Give a row to the prepared tree ``name``, or other environments to the row that it has.

    Args:
        name: of its folder; a dataset of that name that is no tree keeps its row.
        environments: their names, in index order.
    """
    if name not in DATASETS or DATASETS.get(name).is_tree:
        row = DatasetInfo(
            name,
            tuple(environments),
            target=f"{_OF_TREES}:{name}",
            summary="a prepared tree",
            plugin=True,
            hparams=FACE_HPARAMS,
        )
        DATASETS.add(row, replace=True)


def has_small_images(dataset: str) -> bool:
    """Whether ``dataset`` is of DomainBed's ``SMALL_IMAGES`` family; an unknown one is not."""
    return dataset in DATASETS and DATASETS.get(dataset).small_images


def scale_hparams(dataset: str) -> tuple[HParam, ...]:
    """DomainBed's generic lr, weight decay and batch size for ``dataset``; they come after an algorithm's own."""
    if has_small_images(dataset):
        return _scale(
            lr=(1e-3, log_uniform(10, -4.5, -2.5)),
            weight_decay=(0.0, constant(0.0)),
            batch_size=(64, log_uniform_int(2, 3, 9)),
        )
    high = 5 if dataset == "DomainNet" else 5.5
    return _scale(
        lr=(5e-5, log_uniform(10, -5, -3.5)),
        weight_decay=(0.0, log_uniform(10, -6, -2)),
        batch_size=(32, log_uniform_int(2, 3, high)),
    )


def test_env_problems(test_envs: list[int], environments: tuple[str, ...]) -> list[str]:
    """What is wrong with ``--test_envs``, given the names of the dataset's environments."""
    return _env_problems("--test_envs", test_envs, environments, "train")


def train_env_problems(train_envs: list[int], environments: tuple[str, ...]) -> list[str]:
    """What is wrong with ``--train_envs``, given the names of the dataset's environments."""
    return _env_problems("--train_envs", train_envs, environments, "test")


def _env_problems(option: str, envs: list[int], environments: tuple[str, ...], rest: str) -> list[str]:
    n = len(environments)
    listing = ", ".join(f"{i} {name}" for i, name in enumerate(environments))
    problems = []
    outside = [env for env in envs if not 0 <= env < n]
    if outside:
        problems.append(
            f"{option} {' '.join(map(str, outside))}: there is no such environment; they are {listing}"
        )
    repeated = sorted({env for env in envs if envs.count(env) > 1})
    if repeated:
        problems.append(f"{option} names {' '.join(map(str, repeated))} more than once")
    if not outside and len(set(envs)) == n:
        problems.append(
            f"{option} names all {n} environments and leaves none to {rest} on; they are {listing}"
        )
    return problems
