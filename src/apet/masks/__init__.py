"""What is trained: supports, trainable weights, insertions, θ. No model is touched here."""
