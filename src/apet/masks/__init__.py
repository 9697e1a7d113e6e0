"""Masks: which entries of a weight are trained, how they are chosen, and how a budget is shared out over weights."""
