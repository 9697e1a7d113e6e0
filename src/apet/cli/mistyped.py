"""An option that a command does not have: what was meant, in the words of the command line."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence

from apet.setting_names import is_setting_word, setting_meant

OPTIONS_MEANT = {
    "o": "output", "out": "output", "out-dir": "output", "output-dir": "output", "output-folder": "output",
    "output-path": "output", "save-to": "output", "config-file": "config", "yaml": "config",
    "silent": "quiet", "q": "quiet", "max-samples": "limit", "num-workers": "workers", "jobs": "workers",
    "retry-failed": "retry",
}  # fmt: skip
"""Options of other tools -> ours, where they are no settings."""


def option_hint(error: Exception, words: Sequence[str]) -> str:
    """What to write instead, to follow the message of an option that is not there.

    Args:
        error: typer's.
        words: the command line.

    Returns:
        Text that begins with a full stop, or nothing.
    """
    if type(error).__name__ != "NoSuchOption":
        return ""
    context = getattr(error, "ctx", None)
    given = str(getattr(error, "option_name", "")).strip()
    parameters = [] if context is None else context.command.params
    options = {option for parameter in parameters for option in parameter.opts if option.startswith("--")}
    # Which it takes for near ones is worth nothing where we know what was meant.
    error.possibilities = []  # type: ignore[attr-defined]
    takes_settings = any(parameter.name == "settings" for parameter in parameters)
    hint = _meant(given, _value(given, words), options, takes_settings)
    if hint:
        return f". {hint}"
    if "predict" in words:
        return ". What begins with - and is no option goes after --"
    near = difflib.get_close_matches(given, options, n=3, cutoff=0.6)
    return f". Nearest: {', '.join(near)}" if near else ""


def _meant(given: str, value: str, options: set[str], takes_settings: bool) -> str:
    name = given.strip("-").lower()
    setting, how = setting_meant(name) or (name.replace("-", "_"), "")
    if f"--{OPTIONS_MEANT.get(name)}" in options:
        return f"Write --{OPTIONS_MEANT[name]} {value}".rstrip()
    if not setting:
        return how[:1].upper() + how[1:]
    option = f"--{setting.replace('_', '-')}"
    if option in options and option != given:
        return f"Write {option} {'…' if how else value}".rstrip() + (f" ({how})" if how else "")
    if takes_settings and (is_setting_word(setting) or _is_run_setting(setting)):
        return f"Write {setting}={'…' if how or not value else value}{f' ({how})' if how else ''}, without dashes"
    return ""


def _is_run_setting(name: str) -> bool:
    from apet.training.config import RunConfig

    return name in RunConfig.model_fields


def _value(given: str, words: Sequence[str]) -> str:
    """What was given for an option; nothing where no value follows."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == given:
            return "" if following.startswith("-") or not following else shlex.quote(following)
        if word.startswith(f"{given}="):
            return shlex.quote(word.partition("=")[2])
    return ""
