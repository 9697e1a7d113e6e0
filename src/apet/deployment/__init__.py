"""From a finished run to files that others serve: plain models, adapters of peft, deltas, and the hub."""
