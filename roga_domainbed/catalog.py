"""What there is: algorithms, datasets and backbones by name. Listing them imports no torch.

The order of ``ALGORITHMS`` and ``DATASETS`` is the row and section order of every result table, as in
DomainBed: upstream's names first, in upstream's order, then ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from roga_domainbed.hparams import HParam, choice, constant, log_uniform, log_uniform_int
from roga_domainbed.registry import Registry, load


@dataclass(frozen=True)
class AlgorithmInfo:
    """An algorithm.

    Attributes:
        name: the registered name, also the class name.
        target: ``"module:Class"``; None where only an upstream checkout has it.
        summary: one line.
        reference: arXiv number or venue.
        plugin: True if the class is ours on either backend, False if it belongs to the host.
    """

    name: str
    target: str | None = None
    summary: str = ""
    reference: str = ""
    plugin: bool = False


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
    """

    name: str
    environments: tuple[str, ...]
    target: str | None = None
    summary: str = ""
    plugin: bool = False
    small_images: bool = False
    needs_data_dir: bool = True
    hparams: tuple[HParam, ...] = ()

    @property
    def folder(self) -> str:
        """Where it lies below ``--data_dir``, with forward slashes."""
        return _FOLDERS.get(self.name, self.name)

    @property
    def trees(self) -> tuple[str, ...]:
        """The folders below ``--data_dir`` that it is read from: ``folder``, or those of the ``SOURCES`` of its class.

        Looking imports the class of a plugin's dataset, and torch with it.
        """
        sources = getattr(load(self.target), "SOURCES", ()) if self.plugin and self.target else ()
        return tuple(dict.fromkeys(source.tree for source in sources)) or (self.folder,)


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


@dataclass(frozen=True)
class BackboneInfo:
    """A featurizer chosen by ``hparams['backbone']``; any other name is asked of timm."""

    name: str
    target: str
    summary: str = ""


ALGORITHMS: Registry[AlgorithmInfo] = Registry("algorithm")
DATASETS: Registry[DatasetInfo] = Registry("dataset")
BACKBONES: Registry[BackboneInfo] = Registry("backbone")

# --- algorithms --------------------------------------------------------------------------------------------

_FROM_A_CHECKOUT = "from a DomainBed checkout"
for _name, _module, _summary, _reference in (
    ("ERM", "erm", "empirical risk minimization on the pooled minibatches", "Vapnik 1998"),
    ("ERMPlusPlus", None, _FROM_A_CHECKOUT, ""),
    ("Fish", "fish", "a step on each environment in a copy, then part of the way to it", "arXiv:2104.09937"),
    ("IRM", "irm", "one classifier optimal in every environment", "arXiv:1907.02893"),
    ("GroupDRO", "group_dro", "weights that grow for the worst environments", "arXiv:1911.08731"),
    ("Mixup", "mixup", "mixtures of samples from two environments", "arXiv:1912.01805"),
    ("MLDG", "mldg", "meta-learning with environments held out in each step", "arXiv:1710.03463"),
    ("CORAL", "coral", "features of equal mean and covariance in all environments", "arXiv:1607.01719"),
    ("MMD", "mmd", "features of equal distribution, by maximum mean discrepancy", "CVPR 2018"),
    ("DANN", "dann", "features that hide the environment from a discriminator", "arXiv:1505.07818"),
    ("CDANN", "cdann", "DANN with a discriminator that knows the class", "ECCV 2018"),
    ("MTL", None, _FROM_A_CHECKOUT, ""),
    ("SagNet", None, _FROM_A_CHECKOUT, ""),
    ("ARM", None, _FROM_A_CHECKOUT, ""),
    ("VREx", "vrex", "a small variance of the environments' risks", "arXiv:2003.00688"),
    ("RSC", "rsc", "mutes the features with the largest gradients", "arXiv:2007.02454"),
    ("SD", "sd", "spectral decoupling: small logits", "arXiv:2011.09468"),
    ("ANDMask", "and_mask", "moves weights where the environments' gradients agree", "arXiv:2009.00329"),
    ("SANDMask", None, _FROM_A_CHECKOUT, ""),
    ("IGA", None, _FROM_A_CHECKOUT, ""),
    ("SelfReg", "self_reg", "draws samples of one class together, without negatives", "arXiv:2104.09841"),
    *(
        (_name, None, _FROM_A_CHECKOUT, "")
        for _name in "Fishr TRM IB_ERM IB_IRM CAD CondCAD Transfer CausIRL_CORAL CausIRL_MMD EQRM RDM ADRMX URM".split()
    ),
):
    _target = f"roga_domainbed.engine.algorithms.{_module}:{_name}" if _module else None
    ALGORITHMS.add(AlgorithmInfo(_name, target=_target, summary=_summary, reference=_reference))
for _name, _summary, _reference in (
    ("SAM", "sharpness-aware minimization of the pooled loss", "arXiv:2010.01412"),
    ("ASAM", "SAM with a perturbation that scales with the weights", "arXiv:2102.11600"),
    ("GSAM", "SAM that also closes the surrogate gap", "arXiv:2203.08065"),
    ("SAGM", "sharpness-aware gradient matching", "arXiv:2303.10353"),
    ("RoGA", "robust gradient alignment: an ascent point per domain, aligned gradients", "arXiv:2505.20653"),
):
    ALGORITHMS.add(
        AlgorithmInfo(
            _name,
            target=f"roga_domainbed.algorithms.{_name.lower()}:{_name}",
            summary=_summary,
            reference=_reference,
            plugin=True,
        )
    )

# --- datasets ----------------------------------------------------------------------------------------------

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


def _backbone_hparams(
    backbone: str, pretrained: bool, image_size: int, meso4_dropout: float = 0.5
) -> tuple[HParam, ...]:
    return (
        HParam("backbone", backbone, constant(backbone), "featurizer: 'meso4' or any timm name"),
        HParam("pretrained", pretrained, constant(pretrained), "start a timm backbone from ImageNet weights"),
        HParam("weights", "", constant(""), "file with the backbone's weights, where there is no network"),
        HParam("image_size", image_size, constant(image_size), "side in pixels that images are resized to"),
        HParam("meso4_dropout", meso4_dropout, constant(meso4_dropout), "dropout of the meso4 backbone"),
    )


#: What may be given for any dataset; datasets of face crops have them by default. An empty backbone leaves the
#: choice to DomainBed, which goes by the image's side.
BACKBONE_HPARAMS = _backbone_hparams("", True, 224)
FACE_HPARAMS = _backbone_hparams("resnet34", True, 224)

DATASETS.add(
    DatasetInfo(
        "SynthFake",
        ("DF", "F2F", "FS", "NT"),
        target="datasets_ext.synthfake:SynthFake",
        summary="generated faces with four look-alike manipulations; needs no download",
        plugin=True,
        needs_data_dir=True,
        hparams=(
            HParam("lr", 3e-3, log_uniform(10, -3.5, -2), "learning rate of the base optimizer"),
            HParam("weight_decay", 0.0, constant(0.0), "L2 weight decay of the base optimizer"),
            HParam("batch_size", 16, log_uniform_int(2, 3, 5.5), "minibatch of each training environment"),
            # MesoNet drops half; with so little data that delays the first thing learnt by a hundred steps.
            *_backbone_hparams("meso4", pretrained=False, image_size=64, meso4_dropout=0.2),
        ),
    )
)
for _name, _module, _summary in (
    ("FFPP", "ffpp", "FaceForensics++ c23 (light compression), one environment a manipulation"),
    ("FFPP_c40", "ffpp", "FaceForensics++ c40 (strong compression), one environment a manipulation"),
    ("FFPP_raw", "ffpp", "FaceForensics++ without compression, one environment a manipulation"),
    ("SelfBlend", "selfblend", "your face photographs with four look-alike manipulations"),
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

# --- backbones ---------------------------------------------------------------------------------------------

#: What may be given for any dataset that is read on the fast input path; without it, its own augmentation.
INPUT_HPARAMS = (
    HParam(
        "augmentation",
        "",
        constant(""),
        "replaces the augmentation of the training environments; empty keeps the dataset's own",
        choices=("", "none", "flip", "domainbed", "deepfakebench"),
    ),
)

BACKBONES.add(
    BackboneInfo(
        "meso4", target="roga_domainbed.backbones:Meso4", summary="MesoNet's Meso-4, 28 thousand weights"
    )
)


def load_backbone(name: str) -> Callable[[tuple[int, ...], dict[str, Any]], Any]:
    """What builds the backbone ``name``: called with (input_shape, hparams), gives a module with ``n_outputs``."""
    if name in BACKBONES:
        return load(BACKBONES.get(name).target)
    return functools.partial(load("roga_domainbed.backbones:timm_backbone"), name)


#: The hyper-parameters that every algorithm has, in DomainBed's order, before its own.
GENERIC_HPARAMS = (
    HParam("data_augmentation", True, constant(True), "augment the training environments"),
    HParam(
        "resnet18", False, constant(False), "ResNet-18 instead of ResNet-50 (needs resnet50_augmix false)"
    ),
    HParam("resnet50_augmix", True, constant(True), "ResNet-50 with AugMix weights"),
    HParam("dinov2", False, constant(False), "DINOv2 features (upstream only)"),
    HParam("vit", False, constant(False), "vision transformer (upstream only)"),
    HParam("vit_attn_tune", False, constant(False), "train the attention weights alone (upstream only)"),
    HParam("freeze_bn", False, constant(False), "keep batch-norm layers in evaluation mode"),
    HParam("lars", False, constant(False), "LARS optimizer (upstream's ERM++ only)"),
    HParam("linear_steps", 500, constant(500), "steps of linear probing (upstream's ERM++ only)"),
    HParam("resnet_dropout", 0.0, choice([0.0, 0.1, 0.5]), "dropout after the backbone"),
    HParam("vit_dropout", 0.0, choice([0.0, 0.1, 0.5]), "dropout after a vision transformer"),
    HParam("class_balanced", False, constant(False), "draw classes with equal probability"),
    HParam("nonlinear_classifier", False, constant(False), "a classifier of three layers"),
)


def scale_hparams(dataset: str) -> tuple[HParam, ...]:
    """DomainBed's generic lr, weight decay and batch size for ``dataset``; they come after an algorithm's own."""
    small = dataset in DATASETS and DATASETS.get(dataset).small_images
    if small:
        return (
            HParam("lr", 1e-3, log_uniform(10, -4.5, -2.5), "learning rate"),
            HParam("weight_decay", 0.0, constant(0.0), "L2 weight decay"),
            HParam("batch_size", 64, log_uniform_int(2, 3, 9), "minibatch of each training environment"),
        )
    high = 5 if dataset == "DomainNet" else 5.5
    return (
        HParam("lr", 5e-5, log_uniform(10, -5, -3.5), "learning rate"),
        HParam("weight_decay", 0.0, log_uniform(10, -6, -2), "L2 weight decay"),
        HParam("batch_size", 32, log_uniform_int(2, 3, high), "minibatch of each training environment"),
    )
