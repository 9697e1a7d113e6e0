"""Hostile inputs for everything that apet reads; `python -m benchmarks.fuzz` feeds them, see `__main__`.

Each module with a `Kind` makes one kind of input and knows, without asking apet, what may be read from it.
"""
