"""Metrics of deepfake detection. To add one: its function and its row in one file here, and its test.

A function takes scores and labels, of frames or of videos alike; its row in ``METRICS`` is all that trainer, tables and
reports know of it.
"""

from roga_domainbed.metrics.binary import ACCURACY
from roga_domainbed.metrics.metric import METRICS, Metric, get_metric
from roga_domainbed.metrics.multiclass import macro_auc

__all__ = ["ACCURACY", "METRICS", "Metric", "get_metric", "macro_auc"]
