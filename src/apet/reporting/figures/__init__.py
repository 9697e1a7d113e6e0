"""Figures: each is one Vega-Lite spec and its rows, which the page draws in the browser and print as PDF and PNG."""
