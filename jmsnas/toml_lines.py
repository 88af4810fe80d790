"""Set keys in the tables of a TOML text line by line, so that comments, order and all other keys are kept.

A text that is written otherwise (a table or a value over several lines) may be edited wrongly: parse the
result, and compare it with what was to be set.
"""

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)
_VALUE = r"""("[^"\\\n]*"|'[^'\n]*'|\[[^\]\n]*\]|[^\s#"'\[{][^\s#]*)"""


def with_entry(text: str, kind: str, names: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """Set `values` in the first table [[kind]] whose keys have the texts `names`, or append such a table."""
    spans = _spans(text)
    found = _find(text, spans, kind, names)
    if found is not None:
        start, end = spans[found]
        return text[:start] + _with_values(text[start:end], values) + text[end:]
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return f"{text}{gap}[[{kind}]]\n{_key_lines({**names, **values}, _line_end(text))}"


def with_subtable(
    text: str, kind: str, names: Mapping[str, str], subtable: str, values: Mapping[str, Any]
) -> str:
    """Replace all keys of [kind.subtable] of a table [[kind]], or add it; its comments are kept.

    Raises KeyError where no table has the texts `names`.
    """
    spans, end_of_line = _spans(text), _line_end(text)
    found = _find(text, spans, kind, names)
    if found is None:
        raise KeyError(kind)
    lines = _key_lines(values, end_of_line)
    if found + 1 < len(spans):
        start, end = spans[found + 1]
        head, *others = text[start:end].splitlines(keepends=True)
        if re.match(rf"[ \t]*\[[ \t]*{kind}\.{subtable}[ \t]*\]", head):
            kept = "".join(line for line in others if not line.strip() or line.lstrip().startswith("#"))
            return text[:start] + _ended(head, end_of_line) + lines + kept + text[end:]
    start, end = spans[found]
    cut = start + _end_of_keys(text[start:end])
    return (
        f"{_ended(text[:cut], end_of_line)}{end_of_line}[{kind}.{subtable}]{end_of_line}{lines}{text[cut:]}"
    )


def _spans(text: str) -> list[tuple[int, int]]:
    """Return start and end of each table: from its header to the next header."""
    return list(pairwise([*(match.start() for match in _TABLE.finditer(text)), len(text)]))


def _find(text: str, spans: list[tuple[int, int]], kind: str, names: Mapping[str, str]) -> int | None:
    header = re.compile(rf"[ \t]*\[\[[ \t]*{kind}[ \t]*\]\]")
    for index, (start, end) in enumerate(spans):
        table = text[start:end]
        if header.match(table) and all(_text(table, key) == name for key, name in names.items()):
            return index
    return None


def _text(table: str, key: str) -> str | None:
    found = _key_line(key).search(table)
    return found[2][1:-1] if found else None


def _with_values(table: str, values: Mapping[str, Any]) -> str:
    for key, value in values.items():
        line = _key_line(key).search(table)
        if line:
            table = table[: line.start(2)] + _literal(value) + table[line.end(2) :]
        else:
            cut, end_of_line = _end_of_keys(table), _line_end(table)
            table = _ended(table[:cut], end_of_line) + _key_lines({key: value}, end_of_line) + table[cut:]
    return table


def _key_line(key: str) -> re.Pattern[str]:
    """Match a line of a key and a value: group 1 is all before the value, group 2 the value."""
    return re.compile(rf"^([ \t]*{key}[ \t]*=[ \t]*){_VALUE}", re.MULTILINE)


def _end_of_keys(table: str) -> int:
    """Return the position behind the last line of a table that is neither blank nor a comment."""
    position, end = 0, 0
    for line in table.splitlines(keepends=True):
        position += len(line)
        if line.strip() and not line.lstrip().startswith("#"):
            end = position
    return end


def _key_lines(values: Mapping[str, Any], end_of_line: str) -> str:
    return "".join(f"{key} = {_literal(value)}{end_of_line}" for key, value in values.items())


def _literal(value: Any) -> str:
    """Format a text, a number, or a list or table of them, as a TOML value of one line."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_literal(one)}' for key, one in value.items())} }}"
    return repr(value)


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _ended(text: str, end_of_line: str) -> str:
    return text if text.endswith("\n") else text + end_of_line
