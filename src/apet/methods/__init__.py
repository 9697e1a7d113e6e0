"""Recipes: which insertions a method makes of a backbone and a budget. One file each; importing registers all."""

from __future__ import annotations

import importlib
import pkgutil

from apet.methods.method import Method, make_method, registered_methods

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

__all__ = ["Method", "make_method", "registered_methods"]
