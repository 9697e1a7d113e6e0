"""YAML as apet reads and writes it, everywhere: YAML 1.2's words, so that text stays the text that somebody typed.

`yes`, `off`, `010`, `1:30` and `2020-13-45` are texts; only `true`, `false`, `null`, decimal integers (`4096`, `1_000`)
and decimal numbers (`0.3`, `3e-4`) are anything else. A key is text, whatever it looks like. What would be ambiguous or
endless is refused with its line: a key that comes twice, a tag, a mapping that holds itself, deep nesting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml
from pydantic import JsonValue

from apet.errors import ApetError, shortened

MAX_DEPTH = 32
"""Nesting of lists and mappings."""
MAX_NODES = 200_000
"""Values of one text, those behind aliases counted as often as they are meant."""

_TEXT = "tag:yaml.org,2002:str"
# Line ends to YAML 1.1, and to PyYAML, which would fold them into a text as spaces; characters like any to YAML 1.2.
_SEPARATORS = frozenset("\x85\u2028\u2029")
# Not YAML's own patterns: no octal or sexagesimal numbers, no dates, no infinity, which no setting wants.
_WORDS = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), "~nN\0"),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    ("int", re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,17}|[1-9][0-9]{0,2}(?:_[0-9]{3}){1,5})$"), "-+0123456789"),
    (
        "float",
        re.compile(
            r"^[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?[eE][-+]?[0-9]{1,3}"
            r"|\.[0-9]+[eE][-+]?[0-9]{1,3})$"
        ),
        "-+0123456789.",
    ),
)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """By the first letter of a word; PyYAML asks for the empty word under ""."""
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for name, pattern, firsts in _WORDS:
        for first in firsts:
            table.setdefault(first.strip("\0"), []).append((f"tag:yaml.org,2002:{name}", pattern))
    return table


class _Reader(yaml.SafeLoader):
    """PyYAML's parser with these words in place of YAML 1.1's, for the nodes and their lines alone."""

    yaml_implicit_resolvers = _resolvers()

    def fetch_flow_collection_start(self, TokenClass: type) -> None:
        """Open a list or mapping in brackets; too many at once take PyYAML a time that grows with their square."""
        if self.flow_level > MAX_DEPTH:
            raise RecursionError
        super().fetch_flow_collection_start(TokenClass)


class _Writer(yaml.SafeDumper):
    """Quotes whatever either version of YAML would not read as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012, PyYAML's own attribute
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *_resolvers().get(first, [])]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_resolvers()}
    }

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """A text; between double quotes, where they are spelled out, if it holds one of `_SEPARATORS`."""
        return self.represent_scalar(_TEXT, data, style='"' if _SEPARATORS & set(data) else None)


_Writer.add_representer(str, _Writer.represent_str)


def read_yaml(text: str, where: str) -> JsonValue:
    """The value that a YAML text holds.

    Args:
        text: YAML.
        where: what it is, such as a file's name, for messages.

    Returns:
        Texts, integers, finite numbers, booleans, None, and lists and mappings of them; keys are texts.

    Raises:
        ApetError: not valid YAML, a key that comes twice, a tag, or more than `MAX_NODES` or `MAX_DEPTH`; the line is
            named.

    Examples:
        >>> from apet.yaml_text import read_yaml
        >>> read_yaml("{yes: 010, rank: 4, roles: [attn.q, on]}", "settings")
        {'yes': '010', 'rank': 4, 'roles': ['attn.q', 'on']}
    """
    return _Values(where).value(_compose(text, where), 0)


def read_mapping(text: str, where: str) -> dict[str, JsonValue]:
    """The mapping that a YAML text holds.

    Returns:
        Key -> value.

    Raises:
        ApetError: as of `read_yaml`, or it holds none.
    """
    value = read_yaml(text, where)
    if not isinstance(value, dict):
        raise ApetError(f"{where} holds no mapping; expected lines such as 'max_steps: 300'")
    return value


def write_yaml(value: Mapping[str, JsonValue]) -> str:
    """YAML text that `read_yaml` reads as this mapping, in its order."""
    return yaml.dump(dict(value), Dumper=_Writer, sort_keys=False, allow_unicode=True, width=120)


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line of a key or of a list's item, counted from 1.

    Args:
        text: YAML that `read_yaml` reads.
        path: keys and positions that lead to it, from the top.

    Returns:
        Its line; that of its nearest parent where it is not in the text (a key that is missing).
    """
    # Composed, not loaded: only nodes know their lines.
    node = _compose(text, "")
    line = 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _compose(text: str, where: str) -> yaml.Node | None:
    separator = next((c for c in text if c in _SEPARATORS), None)
    if separator is not None:
        code = f"{ord(separator):04X}"
        place = f"{where}:{text[: text.index(separator)].count(chr(10)) + 1}"
        raise ApetError(f'{place}: holds the line separator U+{code}; write it as "\\u{code}", or leave it out')
    reader = None
    try:
        reader = _Reader(text)
        node: yaml.Node | None = reader.get_single_node()
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        # PyYAML's reader tells of characters that no text may hold with a position, not with a line.
        raise ApetError(f"{where}{line}: not valid YAML ({getattr(e, 'problem', None) or _first_line(e)})") from e
    except RecursionError:
        raise ApetError(f"{where}: nested too deeply; give at most {MAX_DEPTH} levels") from None
    except (
        ValueError,
        IndexError,
        KeyError,
        OverflowError,
    ) as e:  # PyYAML's scanner, on escapes and directives out of range
        raise ApetError(f"{where}: not valid YAML ({_first_line(e)})") from e
    finally:
        if reader is not None:
            reader.dispose()
    return node


def _first_line(error: Exception) -> str:
    return shortened((str(error).splitlines() or [type(error).__name__])[0])


class _Values:
    """Builds values from nodes. PyYAML's own constructor would keep the last of two equal keys, in silence."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.num_nodes = 0

    def value(self, node: yaml.Node | None, depth: int) -> JsonValue:
        if node is None:
            return None
        self.num_nodes += 1
        if self.num_nodes > MAX_NODES:
            raise self._error(node, f"more than {MAX_NODES:,} values; aliases may multiply them")
        if depth > MAX_DEPTH:
            raise self._error(node, f"nested too deeply, or within itself; give at most {MAX_DEPTH} levels")
        if isinstance(node, yaml.MappingNode):
            self._refuse_tag(node, "tag:yaml.org,2002:map")
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            self._refuse_tag(node, "tag:yaml.org,2002:seq")
            return [self.value(item, depth + 1) for item in node.value]
        return self._word(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, JsonValue]:
        values: dict[str, JsonValue] = {}
        merged: dict[str, JsonValue] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key is a list or a mapping; give a text")
            name = str(key.value)
            self._refuse_half_pair(key, name)
            if name == "<<" and key.style is None:  # not of YAML 1.2, and in every second file that has anchors
                below = self.value(value, depth + 1)
                if not isinstance(below, dict):
                    raise self._error(key, "<< needs a mapping, such as *defaults")
                merged |= below
                continue
            if name in lines:
                raise self._error(key, f"key {shortened(repr(name))} came before, at line {lines[name]}; give it once")
            lines[name] = key.start_mark.line + 1
            values[name] = self.value(value, depth + 1)
        return {**merged, **values}

    def _word(self, node: yaml.Node) -> JsonValue:
        text = str(node.value)
        plain = getattr(node, "style", None) is None
        tag = _Reader("").resolve(yaml.ScalarNode, text, (plain, not plain))
        if node.tag != _TEXT:
            self._refuse_tag(node, tag)
        kind = node.tag.rpartition(":")[2]
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text.replace("_", ""))
        if kind == "float":
            number = float(text)
            if abs(number) == float("inf"):
                raise self._error(node, f"{shortened(text)} is too large a number")
            return number
        self._refuse_half_pair(node, text)
        return text

    def _refuse_half_pair(self, node: yaml.Node, text: str) -> None:
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise self._error(node, "half of a surrogate pair is no character; give the whole pair, or leave it out")

    def _refuse_tag(self, node: yaml.Node, expected: str) -> None:
        if node.tag != expected:
            name = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._error(node, f"the tag {shortened(name)} is not read; leave it out, and quote what is text")

    def _error(self, node: yaml.Node, message: str) -> ApetError:
        return ApetError(f"{self.where}:{node.start_mark.line + 1}: {message}")
