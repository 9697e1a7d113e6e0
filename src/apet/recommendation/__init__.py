"""The recommendation: how few parameters, where, in what structure, reach full fine-tuning, within a given time."""
