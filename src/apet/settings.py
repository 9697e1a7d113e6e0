"""What every kind of setting has in common: a field takes what was written, not what it could be taken for."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
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

    Example:
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
