"""Known defects of DomainBed's own algorithms on current libraries, in one sentence each.

Observed with DomainBed at commit b93c22a and torch 2.14. The checkout is not changed. A run that cannot work is refused
before it starts (``refusals``) or, if only the attempt tells, at its first step (``explain``). A run that works but is
not what it seems gets a notice (``notices``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Job:
    """What the sentences depend on.

    Attributes:
        algorithm: its registered name.
        hparams: the run's hyper-parameters.
        n_train_envs: number of training environments.
    """

    algorithm: str
    hparams: dict[str, Any]
    n_train_envs: int


@dataclass(frozen=True)
class _Defect:
    algorithms: tuple[str, ...]
    applies: Callable[[Job], bool]
    message: str


_ANY: tuple[str, ...] = ()

_REFUSALS = (
    _Defect(
        ("TRM", "RDM"),
        lambda job: not torch.cuda.is_available(),
        "DomainBed's {name} calls .cuda() whatever the device, and there is no CUDA device here: run it on a GPU, "
        "or without the checkout, where the engine's {name} needs none",
    ),
    _Defect(
        ("ERMPlusPlus",),
        lambda job: job.hparams.get("lars", False),
        "DomainBed's {name} passes its LARS optimizer an argument that LARS does not take (foreach): set hparam "
        "'lars' to false",
    ),
    _Defect(
        ("CAD", "CondCAD"),
        lambda job: job.hparams.get("is_project", False),
        "DomainBed's {name} reads an undefined name (feature_dim) where hparam 'is_project' is true: set it to false",
    ),
    _Defect(
        ("ERMPlusPlus",),
        lambda job: job.hparams.get("averaging", "none") != "none",
        "DomainBed's {name} averages its weights itself and predicts with the average: leave hparam 'averaging' out",
    ),
    _Defect(
        _ANY,
        lambda job: (
            job.hparams.get("vit", False)
            and not job.hparams.get("dinov2", False)
            and not job.hparams.get("backbone")
        ),
        "DomainBed implements no vision transformer but DINOv2: name one of timm's in hparam 'backbone', or set "
        "'dinov2' to true as well",
    ),
)

_NOTICES = (
    _Defect(
        ("MLDG",),
        lambda job: job.n_train_envs in (1, job.hparams["n_meta_test"]),
        "DomainBed's MLDG learns nothing here: with {n_train_envs} training environments and n_meta_test "
        "{hparams[n_meta_test]} no environment is left for meta-training, and no weight changes",
    ),
    _Defect(
        ("SANDMask",),
        lambda job: job.hparams["tau"] >= 1,
        "DomainBed's SANDMask learns nothing at tau {hparams[tau]}: its mask is zero everywhere, and no weight "
        "changes; set hparam 'tau' below 1",
    ),
    _Defect(
        ("Transfer",),
        lambda job: job.hparams["gda"],
        "DomainBed's Transfer trains only its adversarial head where hparam 'gda' is true: featurizer and classifier "
        "stay as they were initialized; set it to false",
    ),
    _Defect(
        ("EQRM",),
        lambda job: job.hparams["eqrm_burnin_iters"] != int(job.hparams["eqrm_burnin_iters"]),
        "DomainBed's EQRM never switches to eqrm_lr: its burn-in of {hparams[eqrm_burnin_iters]} steps is no whole "
        "number; set hparam 'eqrm_burnin_iters' to one",
    ),
    _Defect(
        ("MTL",),
        lambda job: True,
        "DomainBed's MTL puts fresh noise in place of the domain embedding: two predictions of one image differ",
    ),
    _Defect(
        ("GroupDRO",),
        lambda job: True,
        "DomainBed's GroupDRO cannot load its own model.pkl: before load_state_dict, set algorithm.q to "
        "torch.ones({n_train_envs})",
    ),
    _Defect(
        ("IB_ERM", "IB_IRM"),
        lambda job: True,
        "DomainBed's {name} reports the whole loss as nll",
    ),
)


def refusals(job: Job) -> list[str]:
    """Why ``job`` cannot run, as far as its arguments tell."""
    return _messages(_REFUSALS, job)


def notices(job: Job) -> list[str]:
    """What a reader of the numbers of ``job`` should know."""
    return _messages(_NOTICES, job)


def _messages(defects: tuple[_Defect, ...], job: Job) -> list[str]:
    return [
        defect.message.format(name=job.algorithm, hparams=job.hparams, n_train_envs=job.n_train_envs)
        for defect in defects
        if (not defect.algorithms or job.algorithm in defect.algorithms) and defect.applies(job)
    ]


def explain(job: Job, error: Exception) -> str | None:
    """The sentence for an ``error`` of building or first updating the algorithm; None if it is no known defect."""
    reason = str(error) or type(error).__name__
    if job.algorithm == "Fishr":
        if isinstance(error, AttributeError) and "grad_batch" in reason:
            return (
                "DomainBed's Fishr does not work with the installed backpack and torch: its restricted backward "
                "pass fills no per-sample gradients any more; run it without the checkout, where the engine's needs no "
                "backpack, or install the versions of the checkout's requirements.txt in an environment of their own"
            )
        if isinstance(error, AssertionError) and "backpack" in reason:
            return "DomainBed's Fishr needs the package backpack: pip install backpack-for-pytorch"
    if isinstance(error, NotImplementedError) and not job.hparams.get("backbone"):
        return (
            "DomainBed has no featurizer for images of this size: it knows 28, 32 and 224 pixels; set hparam "
            "'backbone' to 'meso4' or a timm name"
        )
    if isinstance(error, OSError) and not job.hparams.get("backbone"):
        first_line = reason.splitlines()[0]
        return (
            f"DomainBed's networks fetch their first weights from the network, and that failed ({first_line}): set "
            "hparams 'pretrained' to false, 'weights' to a file with them, or 'backbone' to another network"
        )
    return None


def saved_state(algorithm: str, state: dict[str, Any]) -> dict[str, Any]:
    """``state`` as the algorithm's own ``load_state_dict`` accepts it.

    Fish keeps its inner network, made anew in each update, among its modules; a new Fish has none.
    """
    if algorithm == "Fish":
        return {name: value for name, value in state.items() if not name.startswith("network_inner.")}
    return state


def prepare_to_load(algorithm: str, module: Any, state: dict[str, Any]) -> None:
    """Make ``module`` accept ``state``, which one of its class saved.

    GroupDRO begins with an empty ``q`` and fills it in its first update.
    """
    if algorithm == "GroupDRO":
        module.q = torch.ones_like(state["q"])


#: Attributes that an update of upstream's algorithm makes before it reads them: no part of a run's state.
MADE_ANEW = {
    "EQRM": ("dist.kde", "dist.data", "dist.bw"),
    "Fish": ("network_inner", "optimizer_inner"),
}
