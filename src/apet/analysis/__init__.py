"""Statistics of the experiments: result tables in, estimates with confidence intervals and verdicts out; no torch."""
