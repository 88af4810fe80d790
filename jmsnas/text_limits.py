"""Limits of TOML and JSON text, checked before it is parsed: nesting, length of keys, digits of integers.

Parsers take quadratic time for keys of many parts, exceed the stack for deep nesting, and raise their own
errors for integers of thousands of digits.
"""

import re

_DEPTH, _KEY_LENGTH, _KEY_PARTS = 64, 256, 16
# Unterminated strings match to their end, so that each character is scanned once.
_TOML_STRINGS = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)' + r"|'''.*?(?:'''|\Z)"
    r'|"(?:\\.|[^"\\\n])*+"?' + r"|'[^'\n]*+'?|#[^\n]*+",
    re.DOTALL,
)
_JSON_STRINGS = re.compile(r'"(?:\\.|[^"\\])*+"?', re.DOTALL)
_LONG_INTEGER = re.compile(r"(?<![\w.])(?:[0-9]{20,}|0x[0-9a-fA-F]{17,}|0o[0-7]{23,}|0b[01]{65,})(?![\w.])")
_BRACKETS = re.compile(r"[\[\]{}]")
_SEPARATORS = re.compile(r"[\n\r=,\[\]{}]+")


def excess_in_toml(text: str) -> str:
    """Describe what exceeds the limits of TOML text; empty where nothing does."""
    bare = _TOML_STRINGS.sub(lambda found: "" if found[0][0] == "#" else "s", text)
    # Spaces may surround the dots of a key.
    keys = _SEPARATORS.split(bare.replace(" ", "").replace("\t", ""))
    if any(len(key) > _KEY_LENGTH or key.count(".") >= _KEY_PARTS for key in keys):
        return f"a key or number of more than {_KEY_LENGTH} characters or {_KEY_PARTS} parts"
    return _excess(bare.replace("_", ""))


def excess_in_json(text: str) -> str:
    """Describe what exceeds the limits of JSON text; empty where nothing does."""
    return _excess(_JSON_STRINGS.sub("s", text))


def _excess(bare: str) -> str:
    if _LONG_INTEGER.search(bare):
        return "an integer of more than 64 bits"
    depth = 0
    for bracket in _BRACKETS.findall(bare):
        depth += 1 if bracket in "[{" else -1
        if depth > _DEPTH:
            return f"more than {_DEPTH} levels of brackets"
    return ""
