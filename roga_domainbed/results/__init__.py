"""What runs have written: records, selection, ranking, statistics. No torch."""
