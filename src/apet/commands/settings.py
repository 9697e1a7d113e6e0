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

    # A tuple is a list in YAML; one column of texts may be given as a word.
    plain = {key: list(v) if isinstance(v, tuple) else v for key, v in settings.items() if v is not None}
    if isinstance(plain.get("text"), str):
        plain["text"] = [plain["text"]]
    given = cast("dict[str, JsonValue]", plain)  # whatever else was given is refused when it is validated
    if isinstance(config, RunConfig):
        if not given:
            return config
        base: Mapping[str, JsonValue] = config.model_dump(mode="json", exclude_unset=True)
    elif isinstance(config, str | Path):
        base = read_config(Path(config))
    else:
        base = config or {}
    return validate_config(apply_overrides({**(defaults or {}), **base}, given))


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
