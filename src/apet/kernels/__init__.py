"""Forward and gradient of W ⊙ m at the cost it should have: O(k) memory, a fraction of a dense product's time."""
