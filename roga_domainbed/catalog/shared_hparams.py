"""Hyper-parameters that belong to no one method: DomainBed's generic ones, those of backbones and of the input."""

from __future__ import annotations

from roga_domainbed.catalog.hparams import HParam, choice, constant
from roga_domainbed.catalog.values import MOST_STEPS

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
    HParam("lars", False, constant(False), "LARS optimizer (ERM++ only)"),
    HParam(
        "linear_steps",
        500,
        constant(500),
        "steps in which the classifier warms up alone (ERM++ only)",
        at_least=0,
    ),
    HParam("resnet_dropout", 0.0, choice([0.0, 0.1, 0.5]), "dropout after the backbone", at_least=0, below=1),
    HParam(
        "vit_dropout", 0.0, choice([0.0, 0.1, 0.5]), "dropout after a vision transformer", at_least=0, below=1
    ),
    HParam("class_balanced", False, constant(False), "draw classes with equal probability"),
    HParam("nonlinear_classifier", False, constant(False), "a classifier of three layers"),
)


def backbone_hparams(
    backbone: str, pretrained: bool, image_size: int, meso4_dropout: float = 0.5
) -> tuple[HParam, ...]:
    """Declare what a dataset's backbone is by default."""
    return (
        HParam("backbone", backbone, constant(backbone), "featurizer: a name of 'list', or any timm name"),
        HParam("pretrained", pretrained, constant(pretrained), "start a timm backbone from ImageNet weights"),
        HParam("weights", "", constant(""), "file with the backbone's weights, where there is no network"),
        HParam(
            "image_size",
            image_size,
            constant(image_size),
            "side in pixels that images are resized to",
            at_least=1,
            at_most=2**12,
        ),
        HParam(
            "meso4_dropout",
            meso4_dropout,
            constant(meso4_dropout),
            "dropout of the backbones meso4 and mesoinception4",
            at_least=0,
            below=1,
        ),
    )


#: What may be given for any dataset; datasets of face crops have them by default. An empty backbone leaves the
#: choice to DomainBed, which goes by the image's side.
BACKBONE_HPARAMS = (
    *backbone_hparams("", True, 224),
    HParam(
        "frequency",
        "none",
        constant("none"),
        "what the network sees beside the colours: the phase spectrum (SPSL), or noise residuals (SRM)",
        choices=("none", "phase", "srm"),
    ),
    HParam(
        "normalize",
        "dataset",
        constant("dataset"),
        "whose mean and standard deviation the network's input has: the dataset's, or those of the first weights",
        choices=("dataset", "backbone"),
    ),
)
FACE_HPARAMS = backbone_hparams("resnet34", True, 224)

#: What may be given for any dataset that is read on the fast input path; without it, its own augmentation.
INPUT_HPARAMS = (
    HParam(
        "augmentation",
        "",
        constant(""),
        "replaces the augmentation of the training environments; empty keeps the dataset's own",
        choices=("", "none", "flip", "domainbed", "deepfakebench", "cnn_aug_0.1", "cnn_aug_0.5", "sbi"),
    ),
)

#: What takes the step; adam is what DomainBed's algorithms step with. The sharpness-aware algorithms have them among
#: their own hyper-parameters. The engine's take them when they are given, and a random search does not draw them there.
OPTIMIZER_HPARAMS = (
    HParam("optimizer", "adam", constant("adam"), "base optimizer", choices=("adam", "adamw", "sgd")),
    HParam("momentum", 0.9, choice([0.0, 0.9]), "momentum of sgd; adam and adamw ignore it", at_least=0),
)

#: What may be given for any dataset and algorithm; without them the learning rate is constant.
SCHEDULE_HPARAMS = (
    HParam(
        "lr_schedule",
        "none",
        constant("none"),
        "what the learning rate does after the warm-up; cosine takes it to 0 at the run's end",
        choices=("none", "cosine", "step"),
    ),
    # Training steps. The field's configurations count epochs here, so none of their names is taken.
    HParam(
        "lr_decay_every",
        None,
        constant(None),
        "with step: training steps between two decays; must be given",
        kind=int,
        at_least=1,
        at_most=MOST_STEPS,
    ),
    HParam(
        "lr_decay",
        0.1,
        constant(0.1),
        "with step: what a decay multiplies the learning rate by",
        above=0,
        at_most=1,
    ),
    HParam(
        "warmup_steps",
        0,
        constant(0),
        "first steps, in which the learning rate rises linearly to its full value",
        at_least=0,
        at_most=MOST_STEPS,
    ),
)

#: What may be given for any dataset and algorithm; without them the weights are those of the step.
AVERAGING_HPARAMS = (
    HParam(
        "averaging",
        "none",
        constant("none"),
        "an average of the weights over the steps is evaluated and saved: SWAD, or an exponential moving average",
        choices=("none", "swad", "ema"),
    ),
    HParam(
        "ema_decay",
        0.999,
        constant(0.999),
        "with ema: weight of a step relative to that of the next",
        above=0,
        below=1,
    ),
    HParam(
        "swad_converge",
        3,
        constant(3),
        "with swad: evaluations that the validation loss of the start is the lowest of, itself included",
        at_least=1,
    ),
    HParam(
        "swad_tolerate",
        6,
        constant(6),
        "with swad: evaluations in a row with too high a validation loss, after which the average has ended",
        at_least=1,
    ),
    HParam(
        "swad_ratio",
        1.3,
        constant(1.3),
        "with swad: too high is above this times the mean validation loss of the swad_converge evaluations",
        at_least=1,
    ),
)
