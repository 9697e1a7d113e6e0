"""Vega, Vega-Lite and vega-embed as one script that a page carries inside itself."""

from __future__ import annotations

from importlib.metadata import version

from apet.cache import cache_folder, write_cached
from apet.errors import ApetError
from apet.reporting.figures.figure import VEGA_LITE


def vega_script() -> str:
    """The script, as vl-convert bundles it, which takes a second; it is kept in the user's cache.

    Returns:
        JavaScript that needs nothing else and requests nothing.

    Raises:
        ApetError: it could end the element that it is put into.
    """
    path = cache_folder() / f"vega-{version('vl-convert-python')}-{VEGA_LITE}.js"
    if path.is_file():
        return path.read_text("utf-8")
    import vl_convert

    script = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE))
    if "</script" in script.lower():
        raise ApetError("the bundle of Vega holds </script>, and cannot stand in a page; use another vl-convert-python")
    write_cached(path, lambda part: part.write_text(script, "utf-8"))
    return script
