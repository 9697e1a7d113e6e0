"""What every kind of setting has in common: a field takes what was written, not what it could be taken for."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, JsonValue, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import CoreSchema, core_schema


def _as_written(schema: Any) -> None:  # pydantic's schemas are dictionaries of many forms; every part is looked at
    if isinstance(schema, dict):
        for key, part in schema.items():
            _as_written(part)
            if isinstance(part, dict) and part.get("type") == "nullable" and part["schema"].get("type") != "str":
                schema[key] = core_schema.no_info_before_validator_function(_none_word, part)
        if schema.get("type") in ("int", "float", "bool"):
            schema["strict"] = True
    elif isinstance(schema, list | tuple):
        for part in schema:
            _as_written(part)


def _none_word(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


class Settings(BaseModel):
    """Fields that are read from YAML files and command lines.

    Unknown keys are refused: a misspelled one would leave a default in place, and nobody would see it in the results.
    Numbers and booleans are those of `apet.yaml_text`: the text ``yes`` is not true, ``010`` is not ten, and true is
    not one. Where a field may be empty, ``none`` says so beside YAML's ``null``, as its help does.

    Examples:
        >>> from apet.settings import Settings
        >>> class Example(Settings):
        ...     rank: int | None = 8
        >>> Example(rank="none").rank is None
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        """The fields' schema, in which scalars are not converted."""
        schema = handler(source)
        _as_written(schema)
        return schema


def why_not(error: ValidationError, settings: type[BaseModel]) -> str:
    """What the first setting that does not fit would take: its values where they are listed, else its kind and bounds.

    Args:
        error: from validating settings of that class.
        settings: the class.

    Returns:
        Such as "give a whole number of at least 1" or "give 'refuse', 'drop' or none".
    """
    first = error.errors()[0]
    if first["type"] in ("value_error", "assertion_error"):  # said by a validator, which knows better
        return first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    try:
        schema = settings.model_json_schema()
        taken = _taken(schema["properties"][str(first["loc"][0])], schema.get("$defs", {}))
    except (KeyError, TypeError, ValueError, PydanticUserError):  # a guest's field of a type that JSON does not know
        taken = ""
    return f"give {taken}" if taken else first["msg"][:1].lower() + first["msg"][1:]


def _taken(schema: dict[str, JsonValue], definitions: dict[str, Any]) -> str:
    """What a JSON schema takes, in words; empty where that is too much to say."""
    options: list[str] = []
    any_of = schema.get("anyOf", [schema])
    for part in any_of if isinstance(any_of, list) else []:
        assert isinstance(part, dict)
        reference = str(part.get("$ref", "")).rpartition("/")[2]
        option = _one_kind(definitions[reference] if reference else part)
        if not option:
            return ""
        options += option
    return " or ".join(filter(None, (", ".join(options[:-1]), options[-1])))


_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "a text",
    "null": "none",
}


def _one_kind(schema: dict[str, JsonValue]) -> list[str]:
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list):
        return [repr(value) for value in values]
    kind = str(schema.get("type"))
    if kind == "array":
        items = schema.get("items")
        inner = _one_kind(items) if isinstance(items, dict) else []
        return [f"a list such as [{' or '.join(inner)}, …]" if inner and inner[0].startswith("'") else "a list"]
    if kind == "object":
        return ["a mapping such as {key: value}"]
    low, above = _bound(schema, "minimum"), _bound(schema, "exclusiveMinimum")
    high, below = _bound(schema, "maximum"), _bound(schema, "exclusiveMaximum")
    bounds = [f"from {low} to {high}"] if low and high else []
    if not bounds:
        words = (("of at least", low), ("above", above), ("of at most", high), ("below", below))
        bounds = [f"{word} {bound}" for word, bound in words if bound]
    return [f"{_KINDS[kind]} {' and '.join(bounds)}".rstrip()] if kind in _KINDS else []


def _bound(schema: dict[str, JsonValue], name: str) -> str:
    bound = schema.get(name)
    # Wider ones are those of the machine.
    return f"{bound:g}" if isinstance(bound, int | float) and abs(bound) < 2**53 else ""
