"""Train one model: upstream's arguments and records, counter-based randomness, the metrics of the field."""
