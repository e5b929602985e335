"""Metrics of deepfake detection. To add one, write its function and its row in one file here, and a test.

The function takes the scores and labels of frames or videos. The trainer, tables and reports read its row in
``METRICS``.
"""

from roga_domainbed.metrics.binary import ACCURACY
from roga_domainbed.metrics.metric import METRICS, Metric, get_metric
from roga_domainbed.metrics.multiclass import macro_auc

__all__ = ["ACCURACY", "METRICS", "Metric", "get_metric", "macro_auc"]
