"""What a frozen model is: families as data, positions, loading."""
