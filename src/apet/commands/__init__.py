"""What the command line does, as functions that return values: ``apet.tune``, ``apet.compare`` and the others."""
