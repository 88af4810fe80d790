import json
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from PIL import Image
from profiling_jobs import a_row

from jmsnas.cli.profile_breakdown import check_host_is, print_breakdown, profile_breakdown
from jmsnas.errors import DeviceError, MeasurementError
from jmsnas.profiler.host.environment import describe_host, environment_id
from jmsnas.profiler.table.merge_journal import merge_rows
from jmsnas.profiler.table.parquet import read_table, write_table
from jmsnas.profiler.timing.torchprof_backend import Breakdown
from jmsnas.report.breakdown_plot import draw_breakdown
from jmsnas.report.plot_style import png, svg
from jmsnas.space import HEAD, IDENTITY, STEM, Block, Candidate, Layer
from jmsnas.workspace import Workspace

WIDE, NARROW = Layer(8, 8, 1, 4, 4), Layer(8, 12, 2, 4, 4)
STEM_BLOCK = Block(STEM, Layer(1, 8, 1, 8, 8, "stem"))
HEAD_BLOCK = Block(HEAD, Layer(8, 10, 1, 2, 2, "head", 16))


def mbconv(kernel: int, layer: Layer, scale: float = 1.0, expansion: int = 3) -> Breakdown:
    """An MBConv of 10 + 30 + 10 us times `scale`, and 2 us of addition where the layer keeps its shape."""
    stages = {"expand": 10e-6 * scale, "depthwise": 30e-6 * scale, "project": 10e-6 * scale}
    skip = layer.keeps_shape
    block = Block(Candidate(kernel, expansion, skip), layer)
    return Breakdown(block, tuple((stages | ({"add": 2e-6} if skip else {})).items()), 50e-6 * scale)


FOUND = (
    Breakdown(STEM_BLOCK, (("stem", 40e-6),), 40e-6),
    mbconv(3, WIDE),
    mbconv(5, WIDE, 2),
    mbconv(3, NARROW, 3),
    Breakdown(HEAD_BLOCK, (("head_conv", 40e-6), ("head_pool", 20e-6), ("head_dense", 20e-6)), 80e-6),
)


def bars(figure: Figure) -> list[tuple[str, float]]:
    """Names and lengths of the bars from the top of the picture to its foot."""
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    ends: dict[float, float] = {}
    for patch in axes.patches:
        y = round(patch.get_y() + patch.get_height() / 2, 6)
        ends[y] = max(ends.get(y, 0.0), patch.get_x() + patch.get_width())
    ticks = [round(tick, 6) for tick in axes.get_yticks()]
    assert ticks == sorted(ticks) and axes.yaxis_inverted()
    return [(name, ends[tick]) for name, tick in zip(names, ticks, strict=True)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text().strip() for text in figure.axes[0].texts]


def test_bars_end_at_the_sum_largest_first_within_a_geometry() -> None:
    figure = draw_breakdown("pi4", FOUND)
    names, ends = zip(*bars(figure), strict=True)
    assert names == ("stem", "mb_k5_e3_skip", "mb_k3_e3_skip", "mb_k3_e3", "head")
    # In us: 40; 2 * 50 + 2; 50 + 2; 3 * 50; 40 + 20 + 20.
    assert ends == pytest.approx((40, 102, 52, 150, 80))
    assert figure.axes[0].get_xlabel().startswith("us, sum of the stages")
    geometries = [text for text in texts(figure) if "->" in text]
    assert geometries == ["1->8 8x8", "8->8 4x4", "8->12 4x4 /2", "8->10 2x2 h16"]
    assert [text for text in texts(figure) if "->" not in text] == ["40.0", "102", "52.0", "150", "80.0"]


def test_each_stage_has_one_colour_and_is_in_the_legend() -> None:
    figure = draw_breakdown("pi4", FOUND)
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == ["expand", "depthwise", "project", "add", "stem", "head_conv", "head_pool", "head_dense"]
    colours = [patch.get_facecolor() for patch in legend.get_patches()]
    assert len(set(colours)) == len(shown)
    depthwise = [patch for patch in figure.axes[0].patches if patch.get_facecolor() == colours[1]]
    assert sorted(patch.get_width() for patch in depthwise) == pytest.approx([30, 60, 90])


def test_the_title_names_device_and_profiler() -> None:
    heading = draw_breakdown("pi4", FOUND).axes[0].get_title(loc="left")
    assert heading.startswith("Latency by stage of every block on pi4,")
    assert heading.endswith("measured by torchprof (eager torch, its hooks included)")


def test_of_many_blocks_the_slowest_are_drawn() -> None:
    layers = [Layer(8, 8 + n, 2, 4, 4) for n in range(13)]
    found = [mbconv(3, layer, n + e / 10, e) for n, layer in enumerate(layers) for e in range(1, 6)]
    figure = draw_breakdown("local", found)
    heading = figure.axes[0].get_title(loc="left")
    assert heading.startswith("Latency by stage of the 60 slowest of 65 blocks on local,")
    # The first layer's five blocks are the cheapest: 50 us times 0.1 to 0.5.
    assert len(bars(figure)) == 60 and "8->8 4x4 /2" not in texts(figure)
    assert min(end for _, end in bars(figure)) == pytest.approx(50 * 1.1)


def test_long_bars_are_in_milliseconds() -> None:
    figure = draw_breakdown("local", [mbconv(3, NARROW, 100), *FOUND])
    assert figure.axes[0].get_xlabel().startswith("ms, ")
    assert max(end for _, end in bars(figure)) == pytest.approx(5.0)


def test_svg_and_png_can_be_read_and_are_the_same_again() -> None:
    drawn, again = (draw_breakdown("$x$", FOUND) for _ in range(2))
    content = svg(drawn)
    assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
    assert content == svg(again) and b"<dc:date>" not in content
    assert png(drawn) == png(again)
    with Image.open(BytesIO(png(drawn))) as picture:
        assert picture.format == "PNG" and picture.width == 1200


def test_the_table_gives_shares_of_the_sum(capsys: pytest.CaptureFixture[str]) -> None:
    print_breakdown(FOUND)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line]
    assert lines == [
        "block stem sum",
        "stem 1->8 8x8 100.0 % 40.0 us",
        "block expand depthwise project add sum",
        # 10, 30, 10 and 2 of 52; 20, 60, 20 and 2 of 102; 30, 90 and 30 of 150, without an addition.
        "mb_k3_e3_skip 8->8 4x4 19.2 % 57.7 % 19.2 % 3.8 % 52.0 us",
        "mb_k5_e3_skip 8->8 4x4 19.6 % 58.8 % 19.6 % 2.0 % 102.0 us",
        "mb_k3_e3 8->12 4x4 /2 20.0 % 60.0 % 20.0 % - 150.0 us",
        "block head_conv head_pool head_dense sum",
        "head 8->10 2x2 h16 50.0 % 25.0 % 25.0 % 80.0 us",
    ]


def test_command_measures_writes_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [Block(Candidate(3, 3, True), WIDE), Block(IDENTITY, WIDE), HEAD_BLOCK]
    document = profile_breakdown("local", blocks, Workspace(tmp_path), 0, as_json=False)
    tables = tmp_path / "tables"
    assert sorted(path.name for path in tables.iterdir()) == [
        f"local.breakdown.{ending}" for ending in ("json", "png", "svg")
    ]
    found = json.loads((tables / "local.breakdown.json").read_text())["blocks"]
    assert [each["block"] for each in found] == [str(blocks[0]), str(blocks[2])]
    assert all(0 < sum(each["stages"].values()) < 1 for each in found)
    out = capsys.readouterr().out
    assert "mb_k3_e3_skip 8->8 4x4" in out and f"{tables}/local.breakdown.svg" in out
    assert document["table"] == f"{tables}/local.breakdown.json" and document["environment"]["torch"]
    assert document["pictures"] == [f"{tables}/local.breakdown.svg", f"{tables}/local.breakdown.png"]
    assert Workspace(tmp_path).tables == (), "a breakdown is no latency table"
    assert document["rows"] == 0 and "No rows were measured here in eager torch" in out


def test_command_writes_stages_into_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace, block, here = Workspace(tmp_path), Block(Candidate(3, 3, True), WIDE), describe_host()
    row, path = replace(a_row(block), environment=environment_id(here)), workspace.table("local")
    write_table(path, merge_rows("local", [row], {environment_id(here): here}))
    profile_breakdown("local", [block], workspace, 0, as_json=False)
    assert f"1 rows of {path} have stages" in capsys.readouterr().out
    (row,) = read_table(path).rows
    assert row.stages == ("expand", "depthwise", "project", "add")
    (found,) = json.loads(path.with_suffix(".breakdown.json").read_text())["blocks"]
    assert dict(zip(row.stages, row.stages_s, strict=True)) == found["stages"]


def test_command_as_json_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = profile_breakdown("local", [STEM_BLOCK], Workspace(tmp_path), 0, as_json=True)
    assert capsys.readouterr().out == ""
    (block,) = json.loads(json.dumps(document))["blocks"]
    assert block["block"] == "stem 1->8 8x8" and block["stages"] == {"stem": block["total_s"]}


def test_another_device_is_refused_before_anything_runs(tmp_path: Path) -> None:
    message = "this host is not pi4, .* On that machine, run: jmsnas profile --device pi4 --breakdown"
    for refused in (
        lambda: profile_breakdown("pi4", [STEM_BLOCK], Workspace(tmp_path), 0, as_json=False),
        lambda: check_host_is("pi4"),
    ):
        with pytest.raises(DeviceError, match=message):
            refused()
    assert list(tmp_path.iterdir()) == []
    check_host_is("local")


def test_no_blocks_write_no_file(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="none of 1 blocks was broken down"):
        profile_breakdown("local", [Block(IDENTITY, WIDE)], Workspace(tmp_path), 0, as_json=False)
    assert list(tmp_path.iterdir()) == []


def test_the_command_file_loads_nothing_heavy() -> None:
    script = (
        "import sys, jmsnas.cli.profile_breakdown; "
        "print(sorted({'torch', 'numpy', 'matplotlib', 'pyarrow'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
