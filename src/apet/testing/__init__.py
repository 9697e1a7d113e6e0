"""Conformance suite: the design invariants that every method, distribution and family must keep.

A guest's test file needs three lines:

    from apet.testing import MethodConformance

    class TestMine(MethodConformance):
        method = "mine"
"""

from __future__ import annotations

from apet.testing.conformance import DistributionConformance, FamilyConformance, MethodConformance

__all__ = ["DistributionConformance", "FamilyConformance", "MethodConformance"]
