"""Experiments of a report, one file each: figure, table, caption, findings. `registry` has all of them."""
