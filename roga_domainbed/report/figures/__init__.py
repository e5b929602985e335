"""Figures of a report: each a value with its panels, drawn once for the page and once more for a paper."""
