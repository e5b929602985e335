"""The algorithms by name, a row each.

Their order is the row order of every result table: DomainBed's names first, in its order, then ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from roga_domainbed.catalog.registry import Registry


@dataclass(frozen=True)
class AlgorithmInfo:
    """An algorithm.

    Attributes:
        name: the registered name, also the class name.
        target: ``"module:Class"``; None where only an upstream checkout has it.
        summary: one line.
        reference: arXiv number or venue.
        idea: what it does to make environments agree, one of ``IDEAS``; empty is: not said.
        plugin: True if the class is ours on either backend, False if it belongs to the host.
        adapts: whether a prediction depends on the other samples of its batch.
    """

    name: str
    target: str | None = None
    summary: str = ""
    reference: str = ""
    idea: str = ""
    plugin: bool = False
    adapts: bool = False


#: What algorithms act on, in the order of ``roga-domainbed list``.
IDEAS = ("risk", "features", "gradients", "flatness", "meta-learning", "information")

ALGORITHMS: Registry[AlgorithmInfo] = Registry("algorithm")

# fmt: off
for _name, _target, _idea, _summary, _reference in (
    ("ERM", "erm:ERM", "risk", "empirical risk minimization on the pooled minibatches", "Vapnik 1998"),
    ("ERMPlusPlus", "erm_plus_plus:ERMPlusPlus", "risk",
     "the classifier warms up alone; averaged weights predict", "arXiv:2304.01973"),
    ("Fish", "fish:Fish", "gradients",
     "a step on each environment in a copy, then part of the way to it", "arXiv:2104.09937"),
    ("IRM", "irm:IRM", "risk", "one classifier optimal in every environment", "arXiv:1907.02893"),
    ("GroupDRO", "group_dro:GroupDRO", "risk", "weights that grow for the worst environments", "arXiv:1911.08731"),
    ("Mixup", "mixup:Mixup", "risk", "mixtures of samples from two environments", "arXiv:1912.01805"),
    ("MLDG", "mldg:MLDG", "meta-learning",
     "meta-learning with environments held out in each step", "arXiv:1710.03463"),
    ("CORAL", "coral:CORAL", "features",
     "features of equal mean and covariance in all environments", "arXiv:1607.01719"),
    ("MMD", "mmd:MMD", "features", "features of equal distribution, by maximum mean discrepancy", "CVPR 2018"),
    ("DANN", "dann:DANN", "features", "features that hide the environment from a discriminator", "arXiv:1505.07818"),
    ("CDANN", "cdann:CDANN", "features", "DANN with a discriminator that knows the class", "ECCV 2018"),
    ("MTL", "mtl:MTL", "features", "a classifier that sees its environment's mean features", "arXiv:1711.07910"),
    ("SagNet", "sag_net:SagNet", "features", "features whose style says nothing of the class", "arXiv:1910.11645"),
    ("ARM", "arm:ARM", "meta-learning",
     "adapts to an environment by a learned context of its images", "arXiv:2007.02931"),
    ("VREx", "vrex:VREx", "risk", "a small variance of the environments' risks", "arXiv:2003.00688"),
    ("RSC", "rsc:RSC", "features", "mutes the features with the largest gradients", "arXiv:2007.02454"),
    ("SD", "sd:SD", "risk", "spectral decoupling: small logits", "arXiv:2011.09468"),
    ("ANDMask", "and_mask:ANDMask", "gradients",
     "moves weights where the environments' gradients agree", "arXiv:2009.00329"),
    ("SANDMask", "sand_mask:SANDMask", "gradients",
     "moves weights the more, the better the environments' gradients agree", "arXiv:2106.02266"),
    ("IGA", "iga:IGA", "gradients", "a small variance of the environments' gradients", "arXiv:2008.01883"),
    ("SelfReg", "self_reg:SelfReg", "features",
     "draws samples of one class together, without negatives", "arXiv:2104.09841"),
    ("Fishr", "fishr:Fishr", "gradients", "gradients of equal variance in all environments", "arXiv:2109.02934"),
    ("TRM", "trm:TRM", "risk", "features on which one environment's head serves the others", "arXiv:2110.09940"),
    ("IB_ERM", "ib_erm:IB_ERM", "information", "features of small variance", "arXiv:2106.06607"),
    ("IB_IRM", "ib_irm:IB_IRM", "information", "IRM on features of small variance", "arXiv:2106.06607"),
    ("CAD", "cad:CAD", "information", "features whose neighbours do not tell the environment", "arXiv:2201.00057"),
    ("CondCAD", "cond_cad:CondCAD", "information", "CAD within each class", "arXiv:2201.00057"),
    ("Transfer", "transfer:Transfer", "features",
     "an adversarial head near the classifier, which tells environments apart", "arXiv:2106.03632"),
    ("CausIRL_CORAL", "causirl_coral:CausIRL_CORAL", "features",
     "two mixtures of environments with features of equal mean and covariance", "arXiv:2206.11646"),
    ("CausIRL_MMD", "causirl_mmd:CausIRL_MMD", "features",
     "two mixtures of environments with features of equal distribution", "arXiv:2206.11646"),
    ("EQRM", "eqrm:EQRM", "risk", "a high quantile of the environments' risks", "arXiv:2207.09944"),
    ("RDM", "rdm:RDM", "risk", "losses in the worst environment distributed as in all", "arXiv:2310.18598"),
    ("ADRMX", "adrmx:ADRMX", "features",
     "features of the environment, subtracted and mixed anew", "arXiv:2308.06624"),
    ("URM", "urm:URM", "features", "features that look like uniform noise to a discriminator", "TMLR 2024"),
):
    _target = f"roga_domainbed.engine.algorithms.{_target}"
    ALGORITHMS.add(
        AlgorithmInfo(_name, _target, _summary, _reference, _idea, adapts=_name in ("MTL", "ARM"))
    )

for _name, _target, _idea, _summary, _reference in (
    ("SAM", "sam:SAM", "flatness", "sharpness-aware minimization of the pooled loss", "arXiv:2010.01412"),
    ("ASAM", "asam:ASAM", "flatness", "SAM with a perturbation that scales with the weights", "arXiv:2102.11600"),
    ("GSAM", "gsam:GSAM", "flatness", "SAM that also closes the surrogate gap", "arXiv:2203.08065"),
    ("SAGM", "sagm:SAGM", "flatness", "sharpness-aware gradient matching", "arXiv:2303.10353"),
    ("LookSAM", "looksam:LookSAM", "flatness",
     "SAM whose second pass is taken in one of k steps", "arXiv:2203.02714"),
    ("GAM", "gam:GAM", "flatness", "a small gradient norm around the weights", "arXiv:2303.03108"),
    ("FAD", "fad:FAD", "flatness", "a small loss and a small gradient norm around the weights", "arXiv:2307.11108"),
    ("DISAM", "disam:DISAM", "flatness",
     "SAM with an ascent that goes less by the domains of large loss", "arXiv:2405.18861"),
    ("DGSAM", "dgsam:DGSAM", "flatness",
     "one ascent through all environments, whose gradients are the step's", "arXiv:2503.23430"),
    ("GACFAS", "gacfas:GACFAS", "flatness",
     "GAC-FAS: the gradient of all domains at each domain's ascent point", "arXiv:2402.18817"),
    ("RoGA", "roga:RoGA", "flatness", "robust gradient alignment: an ascent point per domain", "arXiv:2505.20653"),
    ("PCGrad", "pcgrad:PCGrad", "gradients",
     "the environments' gradients without the parts that conflict", "arXiv:2001.06782"),
    ("CAGrad", "cagrad:CAGrad", "gradients",
     "near the mean gradient, the best direction for the worst environment", "arXiv:2110.14048"),
    ("LTW", "ltw:LTW", "meta-learning",
     "weights of images, learned on an environment held out in each step", "AAAI 2021"),
    ("CORE", "core:CORE", "features", "features that two augmented views of an image share", "arXiv:2206.02749"),
    ("ForensicTransfer", "forensic_transfer:ForensicTransfer", "features",
     "an autoencoder whose latent halves tell real from fake; its own network", "arXiv:1812.02510"),
):
    _target = f"roga_domainbed.algorithms.{_target}"
    ALGORITHMS.add(AlgorithmInfo(_name, _target, _summary, _reference, _idea, plugin=True))
# fmt: on
