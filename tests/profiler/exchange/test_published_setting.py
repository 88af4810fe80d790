import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.profiler.exchange.published_setting import PublishedSetting, published_setting
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.workspace import check_name

PIXEL = {"device": "Google Pixel 1", "processor": "CPU", "runtime": "TensorFlow Lite", "campaign": 0}


def test_setting_of_a_row() -> None:
    assert str(published_setting(PIXEL)) == "Google Pixel 1, CPU, TensorFlow Lite, campaign 0"
    assert str(published_setting({"device": "board", "runtime": None}, batch=8)) == "board, batch 8"


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        (published_setting(PIXEL), "google-pixel-1-cpu-campaign-0"),
        (PublishedSetting("Amlogic (A311D)", "Mali GPU", "ACL"), "amlogic-a311d-mali-gpu"),
        (PublishedSetting("手机"), "unnamed"),
    ],
)
def test_a_name_for_a_folder(setting: PublishedSetting, name: str) -> None:
    assert setting.name == name


def test_long_names_are_cut_and_stay_distinct() -> None:
    one, other = PublishedSetting("board " * 20, "big cores"), PublishedSetting("board " * 20, "small cores")
    assert one.name != other.name and one.name.startswith("board-board-board")
    assert len(one.name) <= 64


@given(st.text(), st.text(), st.text())
def test_any_text_gives_a_valid_name(device: str, processor: str, campaign: str) -> None:
    name = PublishedSetting(device, processor, "", 1, campaign).name
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (PublishedSetting("Xeon", "CPU, 1 thread", "PyTorch 1.1 eager"), RuntimeKey("torch")),
        (PublishedSetting("Pi", "CPU", "TensorFlow 2.0 eager (Keras)"), RuntimeKey("torch")),
        (PublishedSetting("Pixel", "CPU, 4 threads", "TensorFlow Lite", 8), RuntimeKey("onnxruntime", 4, 8)),
        (PublishedSetting("NVIDIA V100", "", "PyTorch"), RuntimeKey("torch", processor="cuda")),
    ],
)
def test_the_key_most_like_it(words: PublishedSetting, key: RuntimeKey) -> None:
    assert words.key == key
