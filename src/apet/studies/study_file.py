"""Studies from YAML files, checked before anything runs: whatever does not fit is named with its line."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import JsonValue, ValidationError
from pydantic_core import ErrorDetails

from apet.errors import ApetError, UnknownNameError
from apet.methods import make_method
from apet.registry import Registry, import_guest
from apet.setting_names import UnknownSettingError
from apet.settings import why_not
from apet.studies.study_config import AXES, DECIDED_BY_AXES, Override, StudyConfig, split_method
from apet.training.config import RunConfig, field_help, method_label
from apet.yaml_text import line_of, read_mapping

STUDY_KEYS = {field.alias or name for name, field in StudyConfig.model_fields.items()}
"""Keys of a study's file."""


@dataclass(frozen=True)
class Suite:
    """A study that can be run by name.

    Attributes:
        text: its YAML.
        folder: from which the paths in it start.
        description: one line for people.
    """

    text: str
    folder: Path
    description: str


def _load_builtin() -> None:
    for file in sorted(resources.files("apet").joinpath("suites").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            _read_yaml(file.read_text("utf-8"), f"apet/suites/{file.name}")


def _read_yaml(text: str, origin: str) -> None:
    raw = read_mapping(text, origin)
    name = str(raw.get("name", Path(origin).stem))
    SUITES.register(name, Suite(text, Path(origin).parent, str(raw.get("description", ""))), origin)


SUITES: Registry[Suite] = Registry("study", "apet.suites", _load_builtin, _read_yaml)
"""Every study with a name."""


def load_study(name: str, overrides: Mapping[str, JsonValue] | None = None) -> StudyConfig:
    """A study by its file, or a registered one by its name.

    Args:
        name: path of a YAML file, or the name of a suite.
        overrides: ``key=value`` pairs: of the study (``seeds=[0]``), else of its run_defaults (``max_steps=50``).

    Returns:
        The study, checked; its guests are imported.

    Raises:
        UnknownNameError: neither a file nor a suite.
        ApetError: a wrong key or value, with its line.
    """
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        # A byte that is not UTF-8 must not hide the line it stands in: replaced, it is a wrong value with a line.
        return parse_study(path.read_text("utf-8", errors="replace"), name, overrides or {}, path.parent)
    suite_name = name.removesuffix(".yaml")
    if suite_name not in SUITES:
        raise SUITES.unknown(name)
    suite = SUITES.get(suite_name)
    return parse_study(suite.text, suite_name, overrides or {}, suite.folder)


def parse_study(text: str, where: str, overrides: Mapping[str, JsonValue], folder: Path | None = None) -> StudyConfig:
    """A study from YAML text, checked. Guests that it names under ``import`` are imported.

    Args:
        text: of the file.
        where: the file's name, for messages.
        overrides: ``key=value`` pairs that go over the file; guests under ``import`` are added to the file's.
        folder: from which paths under ``import`` start; None = the current one.

    Returns:
        The study.

    Raises:
        UnknownSettingError: an override names a setting that neither a study nor a run has.
        ApetError: not a valid study; the first key that does not fit is named with its line.
    """
    raw = read_mapping(text, where)
    study = _validate(raw, text, where)
    # Guests come first: the methods below, and the settings of a run, may be theirs.
    imports = _import_guests(study, text, where, folder or Path())
    # Before the command line's words: these may narrow the study to less than its overrides speak of.
    _check_overrides(study, text, where)
    for key, value in overrides.items():
        if key == "import":
            continue
        if key in STUDY_KEYS:
            raw[key] = value
        elif key in RunConfig.model_fields:
            run_defaults = raw.get("run_defaults")
            raw["run_defaults"] = {**(run_defaults if isinstance(run_defaults, dict) else {}), key: value}
        else:
            raise UnknownSettingError(
                "setting of a study or of its runs", key, [*sorted(STUDY_KEYS), *RunConfig.model_fields]
            )
    # Added to the file's own, not in their place: the file's methods need its guests. They start from the current
    # folder, where the command was typed.
    raw["import"] = overrides.get("import", [])
    study = _validate(raw, text, where)
    imports += _import_guests(study, text, where, Path())
    _check_values(study, text, where, overrides)
    return study.model_copy(update={"imports": tuple(dict.fromkeys(imports))})


def _import_guests(study: StudyConfig, text: str, where: str, folder: Path) -> tuple[str, ...]:
    """Import the study's guests.

    Returns:
        Their modules, and the absolute paths of their files: workers have another current folder.

    Raises:
        ApetError: a guest does not load; its line is named.
    """
    imports = []
    for n, guest in enumerate(study.imports):
        is_file = Path(guest).suffix in (".py", ".yaml", ".yml")
        spec = str((folder / Path(guest).expanduser()).resolve()) if is_file else guest
        try:
            import_guest(spec)
        except ApetError as e:
            raise ApetError(f"{where}:{line_of(text, ('import', n))}: {e}") from e
        imports.append(spec)
    return tuple(imports)


def _validate(raw: Mapping[str, object], text: str, where: str) -> StudyConfig:
    try:
        return StudyConfig.model_validate(raw)
    except ValidationError as e:
        # The first alone: further ones are often its consequences, and a message is one line.
        first = e.errors()[0]
        raise ApetError(f"{where}:{line_of(text, first['loc'])}: {_message(first)}") from e


def _message(error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        fields = Override.model_fields if error["loc"][0] == "overrides" else StudyConfig.model_fields
        known = [field.alias or name for name, field in fields.items()]
        return str(UnknownNameError("key", str(error["loc"][-1]), known))
    if error["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {error['msg'].lower()}, came {error['input']!r}"


def _check_overrides(study: StudyConfig, text: str, where: str) -> None:
    """Refuse an override that can match nothing in its study: it is a mistake."""
    # Budgets and seeds are not among them: an override may bring its own, which the study's lists do not show.
    values = {
        "backbone": study.backbones,
        "task": study.tasks,
        "method": [method_label(*split_method(method)) for method in study.methods],
    }
    for n, override in enumerate(study.overrides):
        for axis, given in override.match.items():
            line = line_of(text, ("overrides", n, "match", axis))
            if axis not in AXES:
                raise ApetError(f"{where}:{line}: {UnknownNameError('axis', axis, AXES)}")
            decided = _decided_before(override, axis)
            if decided:
                raise ApetError(
                    f"{where}:{line}: an override with {decided} cannot ask for the {axis}: {decided} are decided"
                    " first; give other axes under match, or exclude what is not wanted"
                )
            for pattern in given if isinstance(given, list) else [given]:
                if axis in values and not fnmatch.filter(values[axis], str(pattern)):
                    raise ApetError(f"{where}:{line}: {UnknownNameError(axis, str(pattern), values[axis])}")


def _decided_before(override: Override, axis: str) -> str | None:
    """Which of an override's lists is decided before an axis that it asks for is known."""
    if override.budgets is not None and axis in ("budget", "seed"):
        return "budgets"
    return "seeds" if override.seeds is not None and axis == "seed" else None


def _check_values(study: StudyConfig, text: str, where: str, overrides: Mapping[str, JsonValue]) -> None:
    """Refuse run settings and methods that do not fit, each with its line; what came with the command has none."""
    for key, value in study.run_defaults.items():
        wrong = _wrong_setting(key, value)
        if wrong:
            raise ApetError(wrong if key in overrides else _at(text, where, ("run_defaults", key), wrong))
    for n, override in enumerate(study.overrides):
        for key, value in override.set_.items():
            wrong = _wrong_setting(key, value)
            if wrong:
                raise ApetError(_at(text, where, ("overrides", n, "set", key), wrong))
    for n, method in enumerate(study.methods):
        try:
            name, settings = split_method(method)
            make_method(name, **settings)
        except ApetError as e:
            if "methods" in overrides:
                raise
            raise ApetError(_at(text, where, ("methods", n), str(e))) from e


def _at(text: str, where: str, path: Sequence[str | int], message: str) -> str:
    return f"{where}:{line_of(text, path)}: {message}"


def _wrong_setting(key: str, value: JsonValue) -> str | None:
    """What is wrong with a run setting under run_defaults or set; None where nothing is."""
    if key not in RunConfig.model_fields:
        return str(UnknownSettingError("run setting", key, RunConfig.model_fields))
    if key in DECIDED_BY_AXES:
        return f"{key} is decided by the study's axes; it cannot stand under run_defaults or set"
    # Alone beside the one field without a default, so that an error can be of this key only.
    try:
        RunConfig.model_validate({"backbone": "", key: value})
    except ValidationError as e:
        return f"{key}={value!r} does not fit: {why_not(e, RunConfig)}; {field_help(key)}"
    return None
