"""Kernels of W ⊙ m: entries written in place, and their gradients, in O(k) memory."""
