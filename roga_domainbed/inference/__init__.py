"""A saved run: evaluate it, predict with it."""
