"""Metrics of deepfake detection: pure functions of one-dimensional scores and labels."""
