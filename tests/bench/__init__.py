"""Benchmarks: Modelyard against the smallest pass-through, in one run on one machine, as ratios."""
