"""A saved run at work: evaluate and predict."""
