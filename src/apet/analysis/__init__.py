"""Gaps, thresholds, convergence, transfer: tables of runs in, numbers with their intervals out. No torch."""
