import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.profiler.exchange.published_setting import Setting, setting_of
from jmsnas.profiler.table.latency_table import Key
from jmsnas.workspace import check_name

PIXEL = {"device": "Google Pixel 1", "processor": "CPU", "runtime": "TensorFlow Lite", "campaign": 0}


def test_words_of_a_row() -> None:
    assert str(setting_of(PIXEL)) == "Google Pixel 1, CPU, TensorFlow Lite, campaign 0"
    assert str(setting_of({"device": "board", "runtime": None}, batch=8)) == "board, batch 8"


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        (setting_of(PIXEL), "google-pixel-1-cpu-campaign-0"),
        (Setting("Amlogic (A311D)", "Mali GPU", "ACL"), "amlogic-a311d-mali-gpu"),
        (Setting("手机"), "unnamed"),
    ],
)
def test_a_name_for_a_folder(setting: Setting, name: str) -> None:
    assert setting.name == name


def test_long_names_are_cut_and_stay_apart() -> None:
    one, other = Setting("board " * 20, "big cores"), Setting("board " * 20, "small cores")
    assert one.name != other.name and one.name.startswith("board-board-board")
    assert len(one.name) <= 64


@given(st.text(), st.text(), st.text())
def test_any_words_give_a_name_that_can_be(device: str, processor: str, campaign: str) -> None:
    name = Setting(device, processor, "", 1, campaign).name
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (Setting("Xeon", "CPU, 1 thread", "PyTorch 1.1 eager"), Key("torch")),
        (Setting("Pi", "CPU", "TensorFlow 2.0 eager (Keras)"), Key("torch")),
        (Setting("Pixel", "CPU, 4 threads", "TensorFlow Lite", 8), Key("onnxruntime", 4, 8)),
        (Setting("NVIDIA V100", "", "PyTorch"), Key("torch", processor="cuda")),
    ],
)
def test_the_key_most_like_it(words: Setting, key: Key) -> None:
    assert words.key == key
