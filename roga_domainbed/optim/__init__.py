"""RoGA, SAM and their kin as plain torch optimizers; DomainBed is not needed.

    optimizer = RoGA(model.parameters(), torch.optim.SGD, lr=0.005, momentum=0.9, model=model)
    losses = optimizer.step([lambda x=x, y=y: F.cross_entropy(model(x), y) for x, y in domains])

Closures return the mean loss of their minibatch with its graph and call no ``backward``.
"""

from roga_domainbed.optim.asam import ASAM
from roga_domainbed.optim.cagrad import CAGrad
from roga_domainbed.optim.dgsam import DGSAM
from roga_domainbed.optim.fad import FAD
from roga_domainbed.optim.finite import NonFiniteError
from roga_domainbed.optim.gacfas import GACFAS
from roga_domainbed.optim.gam import GAM
from roga_domainbed.optim.gsam import GSAM
from roga_domainbed.optim.looksam import LookSAM
from roga_domainbed.optim.mixed_batches import DomainBatchSampler, by_domain
from roga_domainbed.optim.pcgrad import PCGrad
from roga_domainbed.optim.roga import RoGA
from roga_domainbed.optim.sagm import SAGM
from roga_domainbed.optim.sam import SAM

__all__ = [
    "ASAM",
    "DGSAM",
    "FAD",
    "GACFAS",
    "GAM",
    "GSAM",
    "SAGM",
    "SAM",
    "CAGrad",
    "DomainBatchSampler",
    "LookSAM",
    "NonFiniteError",
    "PCGrad",
    "RoGA",
    "by_domain",
]
