"""Methods: recipes that turn a backbone and a budget into a DeltaSpec. Importing a file registers its method."""

from __future__ import annotations

from apet.methods.method import METHODS, Method, make_method, method_variants, registered_methods

__all__ = ["METHODS", "Method", "make_method", "method_variants", "registered_methods"]
