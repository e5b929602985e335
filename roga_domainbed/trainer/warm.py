"""What a training imports and looks up as it goes: a process that forks trainings imports this once for all of them.

Other packages' plugins are called, and a checkout is imported and gets the plugin's names. What is wrong there, each
training says by itself. No GPU is touched: a forked process could not use it any more.
"""

from __future__ import annotations

import contextlib

import pyarrow.pandas_compat  # noqa: F401
import sklearn.covariance  # noqa: F401
import torch.utils.serialization.config  # noqa: F401

import roga_domainbed.engine.algorithms
import roga_domainbed.engine.networks
import roga_domainbed.trainer.run  # noqa: F401
from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.trainer.experiment import library_versions
from roga_domainbed.upstream import bridge

library_versions()  # cuDNN is loaded to know its own
with contextlib.suppress(Exception, SystemExit):
    ALGORITHMS.names()
    bridge.register()
