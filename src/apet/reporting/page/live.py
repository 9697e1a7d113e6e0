"""A report's page that follows its study: the same page, and a script that asks the dashboard for what is new."""

from __future__ import annotations

import html
from importlib.resources import files

_CLOSED, _OPEN = "default-src 'none';", "default-src 'none'; connect-src 'self';"


def live_page(page: str, version: str, status: str) -> str:
    """A page as a dashboard shows it.

    Args:
        page: HTML of a report, which may ask for nothing.
        version: of what it shows; the dashboard's answer tells whether there is a newer one.
        status: how the study stands, plain text.

    Returns:
        HTML that asks its own server, and nobody else.
    """
    line = f'<p class="live" id="live" role="status">{html.escape(status)}</p>'
    script = files(__package__).joinpath("live.js").read_text("utf-8")
    page = page.replace(_CLOSED, _OPEN, 1).replace('<html lang="en">', f'<html lang="en" data-version="{version}">', 1)
    head, _, end = page.replace("<header>", f"{line}\n<header>", 1).rpartition("</body>")  # Vega speaks of one, too
    return f"{head}<script>\n{script}</script>\n</body>{end}"
