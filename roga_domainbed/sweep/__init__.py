"""Sweeps: a plan, and a job with a folder for each of its trainings. No torch."""
