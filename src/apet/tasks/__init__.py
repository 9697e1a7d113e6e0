"""What is learned: tasks as data, where their rows come from, objectives for each kind of backbone, metrics."""
