"""Every field of every response of a device, replaced by any JSON value: a checked value or one error."""

import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmsnas.deploy.parts.torch_probe import TorchInfo
from jmsnas.deploy.transport.message import pack_message
from jmsnas.deploy.transport.responses import (
    AgentInfo,
    Done,
    ExchangeTimes,
    LinkTimes,
    MissingBlobs,
    StageReport,
    parse_event,
    parse_response,
    printable,
)
from jmsnas.errors import DeployError

INFO = {
    "name": "pi4",
    "epoch": 3,
    "plan": {"manifest": '{"epoch": 3}', "signature": "ab" * 64},
    "emulate": "jetson",
    "host": {"cpu": "Cortex-A72", "cores": "4"},
    "versions": {"python": "3.11.7", "onnxruntime": "1.24.1+cpu"},
    "boot": "6f1c-22",
    "call_s": 4e-5,
    "data": 1,
}
ROW = {
    "row": 1,
    "ratio": 1.5,
    "ratio_low": 1.4,
    "ratio_high": 1.6,
    "reference_s": 1e-4,
    "converged": True,
    "samples": [1.4, 1.5, 1.6],
    "drift": 0.01,
    "interrupted": 0.0,
    "faults": ["throttled"],
}
RESPONSES: list[tuple[type, dict[str, Any]]] = [
    (AgentInfo, INFO),
    (TorchInfo, {"version": "2.11.0+cu128", "cuda": "Orin", "call_s": 1e-4}),
    (MissingBlobs, {"missing": ["ab" * 32]}),
    (StageReport, {"error": 1e-6}),
    (ExchangeTimes, {"received": 5, "sent": 6}),
    (LinkTimes, {"arrival_ns": [5, -6], "offset_ns": -3, "round_trip_ns": 4}),
    (Done, {}),
]
EVENTS: list[dict[str, Any]] = [
    {"progress": [0.5, 1.0, "measuring"]},
    ROW,
    {"failed": 1, "why": "no kernel"},
    {"provider": "CPUExecutionProvider"},
    {"tell": "the clock fell"},
    {"done": True},
    {"ended": -9},
    {"faults": []},
]
# Texts that move the cursor, forge a line, reverse its letters, or hide.
UNPRINTABLE = [
    "\x1b[2J",
    "a\rb",
    "a\nok agent of cloud",
    "\u202egnp",
    "\x00",
    "\x9b1m",
    "\u2028",
    "\u200b",
    "\x07",
]
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**10, 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from([*UNPRINTABLE, "x" * 70_000, -5, 0, 1e308, 10**400, [], {}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(document: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document, the document itself first."""
    yield ()
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in entries if isinstance(document, dict | list) else ():
        yield from ((key, *path) for path in paths(value)) if isinstance(value, dict | list) else [(key,)]


def with_value(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = document.copy()
    changed[path[0]] = with_value(document[path[0]], path[1:], value)
    return changed


def without(document: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """Leave the last key of a path out."""
    *parents, key = path
    owner: Any = document
    for parent in parents:
        owner = owner[parent]
    smaller = [v for n, v in enumerate(owner) if n != key] if isinstance(owner, list) else dict(owner)
    if isinstance(smaller, dict):
        del smaller[key]
    return with_value(document, tuple(parents), smaller)  # type: ignore[no-any-return]


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from leaves(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from leaves(one)
    else:
        yield value


def parse(kind: type | None, content: bytes) -> Any:
    """Parse a body as the kind of response, or as an event; check the error, or the value."""
    message = pack_message({}, content)
    try:
        found = parse_event(message, "pi4") if kind is None else parse_response(message, kind, "pi4", "Any")
    except DeployError as error:
        assert str(error).startswith("device pi4: malformed response (") and len(str(error)) < 420
        assert str(error).isprintable() and "  " not in str(error)
        return None
    for leaf in leaves(msgspec.to_builtins(found)):
        assert not isinstance(leaf, str) or leaf.isprintable()
        assert not isinstance(leaf, int | float) or abs(leaf) <= 1 << 62
        assert not isinstance(leaf, float) or math.isfinite(leaf)
    return found


@pytest.mark.parametrize(("kind", "fields"), [*RESPONSES, *((None, event) for event in EVENTS)])
def test_valid_responses_are_parsed(kind: type | None, fields: dict[str, Any]) -> None:
    found = parse(kind, json.dumps(fields).encode())
    assert fields.items() <= json.loads(msgspec.json.encode(found)).items()


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_any_value_of_any_field_is_checked(data: st.DataObject) -> None:
    kind, fields = data.draw(st.sampled_from([*RESPONSES, *((None, event) for event in EVENTS)]))
    path = data.draw(st.sampled_from(list(paths(fields))))
    parse(kind, json.dumps(with_value(fields, path, data.draw(_JSON))).encode())


@pytest.mark.parametrize("text", UNPRINTABLE)
@pytest.mark.parametrize(("kind", "fields"), [(AgentInfo, INFO), (TorchInfo, RESPONSES[1][1]), (None, ROW)])
def test_no_control_character_passes(kind: type | None, fields: dict[str, Any], text: str) -> None:
    for path in paths(fields):
        if path:
            assert parse(kind, json.dumps(with_value(fields, path, text)).encode()) is None
    assert parse(kind, json.dumps({**fields, text: 1}).encode()) is None


@pytest.mark.parametrize(
    "token", ["NaN", "Infinity", "1e999", "-1e999", "1" + "0" * 400, "9" * 5000, "-5", '"5"', "[]"]
)
@pytest.mark.parametrize("path", [("call_s",), ("epoch",)])
def test_numbers_of_a_description(path: tuple[str, ...], token: str) -> None:
    content = json.dumps(with_value(INFO, path, "HERE")).replace('"HERE"', token).encode()
    assert parse(AgentInfo, content) is None


@pytest.mark.parametrize("key", ["call_s", "emulate", "host", "versions", "boot", "plan", "epoch", "name"])
def test_a_missing_field_is_named(key: str) -> None:
    message = pack_message({}, json.dumps(without(INFO, (key,))).encode())
    with pytest.raises(
        DeployError, match=f"device pi4: malformed response .Describe.: .*{key}.*update jmsnas"
    ):
        parse_response(message, AgentInfo, "pi4", "Describe")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("call_s",), "fast", "call_s is 'fast': Expected `float`, got `str`"),
        (("call_s",), 3600, "call_s is 3600: Expected `float` <= 1.0"),
        (("versions", "python"), 7, "versions.*: Expected `str`, got `int`"),
        (("emulate",), "../../etc", "emulate is '../../etc': Expected `str` matching"),
        (("host",), [1], "host is a list: Expected `object`, got `array`"),
        (("epoch",), 10**300, "epoch is a number of more than 64 bits"),
        (("name",), "\x1b[2J", r"'\\x1b\[2J': expected printable text"),
    ],
)
def test_the_error_has_the_value_and_what_was_expected(path: Any, value: Any, expected: str) -> None:
    message = pack_message({}, json.dumps(with_value(INFO, path, value)).encode())
    with pytest.raises(DeployError, match=expected):
        parse_response(message, AgentInfo, "pi4", "Describe")


@pytest.mark.parametrize(
    "change",
    [
        {"ratio": 9.0},
        {"ratio_low": 1.55},
        {"samples": [3.0, 4.0]},
        {"samples": []},
        {"reference_s": 3600.0, "ratio": 1.5},
        {"row": -1},
        {"row": True},
        {"interrupted": 2.0},
    ],
)
def test_rows_must_agree_with_themselves(change: dict[str, Any]) -> None:
    assert parse(None, json.dumps({**ROW, **change}).encode()) is None


@pytest.mark.parametrize(
    "progress", [[1, 0, "x"], [0, 0, "x"], [5, 1, "x"], [-1, 1, "x"], [0, 1], [0, 1, 2], "x"]
)
def test_progress_of_nothing(progress: Any) -> None:
    assert parse(None, json.dumps({"progress": progress}).encode()) is None


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 50_000, b"x" * (2 << 20), b"\xff\xfe", b"[]", b"1"]
)
def test_deep_and_huge_bodies(content: bytes) -> None:
    assert parse(AgentInfo, content) is None and parse(None, content) is None


@given(st.text(max_size=400))
def test_printable_text_is_one_short_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and len(shown) <= 300 and "  " not in shown
