"""One file a figure: as it is printed (matplotlib) and as the page shows it (plotly)."""
