"""Working together with the tools that people train with."""
