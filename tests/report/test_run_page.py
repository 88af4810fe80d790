import base64
import html
import json
import re
import shutil
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from mesh_runs import write_mesh_run
from PIL import Image

from jmsnas.errors import DeviceError, InputError, StorageError
from jmsnas.nas.run_result import find_run, newest_run
from jmsnas.report.placement_plot import draw_placement
from jmsnas.report.plot_style import png
from jmsnas.report.report_data import read_report_data
from jmsnas.report.run_page import page, write_report
from jmsnas.report.run_plots import draw_estimators
from jmsnas.report.split_map_plot import compute_split_maps
from jmsnas.workspace import Workspace

PLOTS = ("compare.png", "estimators.png", "network.png", "search.png", "where_split_pays.png")


@pytest.fixture(scope="module")
def written(run: Path) -> str:
    path = write_report(Workspace(run.parents[1]), run)
    assert path == run / "report.html"
    return path.read_text()


class Elements(HTMLParser):
    """Every element of a page as (name, attributes), and the text a person reads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def numbers(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="jmsnas-numbers">(.*?)</script>', page, re.S)
    assert found
    document: dict[str, object] = json.loads(found[1])
    return document


def changed(run: Path, tmp_path: Path, **values: object) -> Path:
    folder = tmp_path / "changed"
    shutil.copytree(run, folder)
    document = json.loads((run / "result.json").read_text()) | values
    (folder / "result.json").write_text(json.dumps(document))
    return folder


def test_the_page_holds_the_numbers_of_the_run(run: Path, written: str) -> None:
    result, found = json.loads((run / "result.json").read_text()), numbers(written)
    assert found["result"] == result
    assert found["config"] == json.loads((run / "config.json").read_text())
    assert found["log"] == [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    text = Elements(written).text
    for seconds in (
        result["derived"]["latency_s"],
        result["target"]["t_const_s"],
        result["cloud_only"]["latency_s"],
        *(term["tau_s"] for term in result["derived"]["terms"]),
        *(term["epsilon_s"] for term in result["derived"]["terms"][:-1]),
    ):
        assert f"{seconds * 1e3:#.4g} ms" in text
    assert f"{100 * result['accuracy']['test']:.1f} %" in text
    assert f"{result['parameters']:,} parameters" in text
    for candidate in result["derived"]["candidates"]:
        assert f"<td>{candidate}</td>" in written


def test_the_layers_add_up_to_the_terms(run: Path, written: str) -> None:
    assert "no longer add up" not in written and "some cells are empty" not in written
    assert written.count("simulated row") == 12


def test_every_simulated_device_is_marked(written: str) -> None:
    text = Elements(written).text
    assert "SIMULATED: pi4, laptop, jetson, cloud." in text
    assert "No device of this run was measured." in text
    for device in ("pi4", "laptop", "jetson", "cloud"):
        assert re.search(rf"<td>{device}<br>onnxruntime</td><td><span class=\"simulated\">SIMULATED", written)
        assert f"jmsnas profile --device {device} --space digits --measured-only" in text
    assert "computed from the link rates" in text


def test_cloud_only_is_reported_as_faster(run: Path, written: str) -> None:
    result = json.loads((run / "result.json").read_text())
    assert result["cloud_only"]["latency_s"] < result["derived"]["latency_s"]
    text = html.unescape(written)
    # 64 bytes over 25, 50 and 200 Mbit/s: 8 x 64 x (1 / 25 + 1 / 50 + 1 / 200) us = 33.28 us.
    assert "Cloud only is faster here. An 8x8 image costs nothing to send: as uint8 it is 64 bytes, " in text
    assert "0.03328 ms over 3 links" in text


def test_the_page_is_one_small_file_that_loads_nothing(written: str) -> None:
    assert len(written.encode()) < 1_000_000
    elements = Elements(written).elements
    for name, attributes in elements:
        for key in ("src", "href", "data", "action", "poster", "srcset"):
            assert (attributes.get(key) or "data:").startswith("data:"), (name, attributes)
        assert name not in ("link", "iframe", "object", "embed", "base", "form")
        assert not any(key.startswith("on") for key in attributes)
    scripts = [attributes for name, attributes in elements if name == "script"]
    assert scripts == [{"type": "application/json", "id": "jmsnas-numbers"}]
    assert "@import" not in written and "url(" not in written
    assert ("meta", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in [
        (name, attributes.get("content")) for name, attributes in elements
    ]


def test_the_plots_are_files_and_in_the_page(run: Path, written: str) -> None:
    assert tuple(sorted(path.name for path in run.glob("*.png"))) == PLOTS
    inside = {base64.b64decode(text) for text in re.findall(r"data:image/png;base64,([^\"]+)", written)}
    for name in PLOTS:
        content = (run / name).read_bytes()
        assert content in inside
        with Image.open(BytesIO(content)) as plot:
            plot.verify()
        with Image.open(BytesIO(content)) as plot:
            pixels = np.asarray(plot.convert("RGB"))
        assert pixels.shape[0] > 300 and pixels.shape[1] > 700
        assert 0.01 < (pixels.min(axis=2) < 200).mean() < 0.95, name


def test_a_hostile_name_does_not_become_markup(run: Path, tmp_path: Path) -> None:
    hostile = '</script><img src=x onerror="alert(1)">$\\frac{1}$ \u624b\u673a'
    text = (run / "result.json").read_text().replace('"name": "pi4"', f'"name": {json.dumps(hostile)}')
    text = text.replace('"pi4": {', f"{json.dumps(hostile)}: {{")
    for key in ("device", "source"):
        text = text.replace(f'"{key}": "pi4"', f'"{key}": {json.dumps(hostile)}')
    folder = changed(run, tmp_path)
    (folder / "result.json").write_text(text)
    page = write_report(Workspace(run.parents[1]), folder).read_text()
    assert "<img src=x" not in page and "&lt;/script&gt;&lt;img src=x" in page
    elements = Elements(page).elements
    assert all("onerror" not in attributes for _, attributes in elements)
    assert sum(name == "img" for name, _ in elements) == len(PLOTS)
    result = numbers(page)["result"]
    assert isinstance(result, dict) and result["topology"]["devices"][0]["name"] == hostile


def test_a_page_without_estimators(run: Path, tmp_path: Path) -> None:
    data = read_report_data(Workspace(tmp_path / "empty"), run)
    assert all(png(draw(data)) for draw in (draw_estimators, draw_placement))
    text = page(data, compute_split_maps(), {})
    assert "some cells are empty" in text and numbers(text)["estimators"] == {}
    assert "jmsnas fit-estimator --device pi4" in text


def test_refitted_estimators_are_noted(run: Path, tmp_path: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    result["derived"]["terms"][0]["tau_s"] *= 2
    result["estimators"]["pi4"]["unseen_mape"] = 0.5
    data = read_report_data(Workspace(run.parents[1]), changed(run, tmp_path, **result))
    text = page(data, compute_split_maps(), {})
    assert "U(.) of pi4 has changed since the run" in text
    assert "U(.) was fitted to other rows after this run" in text


def test_find_run(run: Path, tmp_path: Path) -> None:
    workspace = Workspace(run.parents[1])
    assert newest_run(workspace) == run
    assert find_run(workspace, "short") == run and find_run(workspace, str(run)) == run
    with pytest.raises(DeviceError, match="run name 'No Name' must be 1 to 64"):
        find_run(workspace, "No Name")
    with pytest.raises(InputError, match="no finished run in .*runs. Run: jmsnas search"):
        newest_run(Workspace(tmp_path))


def test_a_page_that_cannot_be_written_leaves_the_old_one(run: Path, tmp_path: Path) -> None:
    folder = changed(run, tmp_path)
    shutil.rmtree(folder / "search.png", ignore_errors=True)
    (folder / "search.png").unlink(missing_ok=True)
    (folder / "search.png").mkdir()
    (folder / "report.html").write_text("old")
    with pytest.raises(StorageError, match="cannot write .*search.png: Is a directory"):
        write_report(Workspace(run.parents[1]), folder)
    assert (folder / "report.html").read_text() == "old"


def test_a_mesh_has_a_page(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    data = read_report_data(workspace, write_mesh_run(workspace, "tree"))
    text = Elements(page(data, compute_split_maps(), {})).text
    assert "Every term of equation (2)" in text and "sum with the slowest branch" in text
    assert text.count("in parallel") > 6 and "eps^{2->3}" in text
    assert "The branches run in parallel and are summed on cloud; T waits for the one on mbs" in text
    assert "jmsnas search --topology mesh" in text and "--topology desk" not in text
