"""Settings and folders of a command, as Python gives them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:  # the command line starts without pydantic's models
    from pydantic import JsonValue

    from apet.training.config import RunConfig


def run_config(
    config: RunConfig | Mapping[str, JsonValue] | str | Path | None,
    settings: Mapping[str, object],
    defaults: Mapping[str, JsonValue] | None = None,
) -> RunConfig:
    """Settings of a run: a file's or a mapping's, and keywords over them; what only the method has goes to it.

    Args:
        config: settings, or a YAML file that holds some; None = none.
        settings: by name, such as ``max_steps`` or the method's ``rank``; None counts as not given.
        defaults: what holds where neither says otherwise.

    Returns:
        The settings, checked.
    """
    from apet.training.config import RunConfig, apply_overrides, read_config, validate_config

    given = plain_settings(settings)
    if isinstance(config, RunConfig):
        if not given:
            return config
        base: Mapping[str, JsonValue] = config.model_dump(mode="json", exclude_unset=True)
    elif isinstance(config, str | Path):
        base = read_config(Path(config))
    else:
        base = config or {}
    return validate_config(apply_overrides({**(defaults or {}), **base}, given))


def plain_settings(settings: Mapping[str, object]) -> dict[str, JsonValue]:
    """Settings as YAML would have them, those alone that were given.

    Args:
        settings: by name; None counts as not given. A path may be a `Path`, and one column of texts a word.

    Returns:
        Plain data; what does not fit is refused when it is validated.
    """
    plain = {key: list(v) if isinstance(v, tuple) else v for key, v in settings.items() if v is not None}
    plain = {key: str(v) if isinstance(v, Path) else v for key, v in plain.items()}
    if isinstance(plain.get("text"), str):
        plain["text"] = [plain["text"]]
    return cast("dict[str, JsonValue]", plain)


def study_settings(settings: Mapping[str, object]) -> dict[str, JsonValue]:
    """Settings of a study: data with text and label stand in place of its tasks, data alone in place of theirs."""
    given = plain_settings(settings)
    if "data" in given and ("text" in given or "label" in given):
        given |= {"tasks": [given["data"]], "data": None}
    return given


def default_output(*parts: str) -> Path:
    """The first folder ``runs/<parts>-<n>`` that is not there yet.

    Args:
        parts: such as the task and the method; of a path its last part's name counts.

    Returns:
        The folder, which is not made.
    """
    name = "-".join(re.sub(r"[^\w.=%-]+", "-", Path(p).stem or p).strip("-.") for p in parts)
    numbers = (Path("runs") / f"{name[:100]}-{n}" for n in itertools.count(1))
    return next(folder for folder in numbers if not folder.exists())
