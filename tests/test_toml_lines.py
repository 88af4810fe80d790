import tomllib
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.toml_lines import with_entry, with_subtable

TEXT = """# Our lab.
name = "lab"

[[device]] # on the desk
name = "pi4"
  memory = '64MB' # what it has to spare

# The cloud is last.
[[link]]
from = "pi4"
to = "cloud"
rate = "1Mbit/s" # Wi-Fi
"""


def test_a_key_is_set_in_its_line_or_behind_the_last_one() -> None:
    changed = with_entry(TEXT, "link", {"from": "pi4", "to": "cloud"}, {"rate": "2Mbit/s", "delay": "1ms"})
    assert changed == TEXT.replace("1Mbit/s", "2Mbit/s") + 'delay = "1ms"\n'
    called = with_entry(TEXT, "device", {"name": "pi4"}, {"call": "1us"})
    assert called == TEXT.replace("to spare\n", 'to spare\ncall = "1us"\n')


def test_a_table_that_is_missing_is_appended() -> None:
    # The link from pi4 is no device of that name.
    changed = with_entry(TEXT, "device", {"name": "cloud"}, {"cores": 4})
    assert changed == TEXT + '\n[[device]]\nname = "cloud"\ncores = 4\n'


def test_a_subtable_is_added_then_replaced_and_its_comments_are_kept() -> None:
    names, values = {"name": "pi4"}, {"at": "now", "sizes": [1, 2.5], "of": {"a": 'say "x"'}}
    added = with_subtable(TEXT, "device", names, "measured", values)
    lines = 'at = "now"\nsizes = [1, 2.5]\nof = { a = "say \\"x\\"" }\n'
    assert added == TEXT.replace("to spare\n", f"to spare\n\n[device.measured]\n{lines}")
    noted = added.replace("[device.measured]", "[device.measured] # by night").replace(
        "of =", "# quiet\nof ="
    )
    again = with_subtable(noted, "device", names, "measured", {"at": "then"})
    assert again == noted.replace(lines.replace("of =", "# quiet\nof ="), 'at = "then"\n# quiet\n')
    with pytest.raises(KeyError):
        with_subtable(TEXT, "device", {"name": "cloud"}, "measured", values)


def test_line_ends_and_a_last_line_without_one() -> None:
    windows = TEXT.rstrip("\n").replace("\n", "\r\n")
    changed = with_subtable(windows, "link", {"to": "cloud"}, "measured", {"at": "now"})
    assert changed == windows + '\r\n\r\n[link.measured]\r\nat = "now"\r\n'
    assert tomllib.loads(changed)["link"][0]["measured"] == {"at": "now"}


VALUES = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.integers(0, 9), max_size=3),
)
KEYS = st.dictionaries(st.sampled_from(["memory", "call", "delay", "cores"]), VALUES, max_size=3)


@given(KEYS, KEYS, KEYS)
def test_the_result_is_the_document_with_the_values_set(
    values: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    expected = deepcopy(tomllib.loads(TEXT))
    text = with_entry(TEXT, "device", {"name": "pi4"}, values)
    for subtable in (first, second):
        text = with_subtable(text, "device", {"name": "pi4"}, "measured", subtable)
    expected["device"][0] |= {**values, "measured": second}
    assert tomllib.loads(text) == expected
    assert text.count("#") >= TEXT.count("#")
