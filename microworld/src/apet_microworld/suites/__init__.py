"""Studies on the microworld, a YAML file each: quick (minutes), microworld (the paper's whole grid)."""
