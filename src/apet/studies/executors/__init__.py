"""Where runs happen: this process, worker processes, a Ray cluster."""
