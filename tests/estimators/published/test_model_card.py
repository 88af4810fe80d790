from pathlib import Path

from synthetic_published import a_record, records, write_published

from jmsnas.estimators.published.estimator import fit_published
from jmsnas.estimators.published.table import read_published


def test_a_card_names_its_sources(tmp_path: Path) -> None:
    rows = [
        *records(3),
        a_record(op="pool_fc"),
        *(a_record(source=f"place {n}", height=n, width=n) for n in range(30, 36)),
    ]
    (found,) = read_published(write_published(tmp_path / "t.parquet", rows))
    fit_published(found, tmp_path / "estimator", seed=7)
    card = (tmp_path / "estimator" / "card.md").read_text()
    for words in (
        "# Latency estimator U(.) of Some board, CPU, 2 threads, TensorFlow Lite\n",
        "**PUBLISHED: all rows were measured by others**",
        "- device: Some board, CPU, 2 threads\n",
        "- runtime, as named in the table: TensorFlow Lite; batch 1\n",
        "- 9 rows of MBConvs and identities\n",
        "- left out: 1 x pool_fc (no MBConv)\n",
        "- from: place 30; place 31; place 32; and 4 more\n",
        "Its device name here is `some-board-cpu-2-threads`, its key `onnxruntime-t2-b1-f32`",
        "| held out | MAPE |",
        "## Model",
        "- blocks outside its training range: 16 to 24 channels, 7 to 35 pixels a side;",
        "jmsnas fit-estimator --table FILE --seed 7",
    ):
        assert words in card
