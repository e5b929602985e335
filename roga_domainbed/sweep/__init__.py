"""Sweeps: a grid of train arguments, and each of them as a job with a folder. No torch."""
