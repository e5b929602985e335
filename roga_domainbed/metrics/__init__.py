"""Metrics of deepfake detection: pure functions of scores and labels, frame or video level alike."""
