"""Scores on the sealed test sets, with intervals and comparisons. `evaluate` alone opens these sets to score models."""
