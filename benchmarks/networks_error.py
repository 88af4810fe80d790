"""Error of whole-model latency predicted from a few measured models, on published tables.

    python benchmarks/networks_error.py --tables DIR [--json FILE] [--check]

DIR holds networks_fbnet.parquet and networks_ofa_v100.parquet (docs/estimators.md names their source). Of
each device's networks 10, 100 and 1,000 are drawn, several times; all predictors are fitted to them and
scored on the others: medians over the draws are printed, the worst draw in brackets. Where a fit to 100
networks predicts too few within 10 %, the residuals of a fit to 2,500 are compared between batch sizes, to
tell properties of the networks from noise of the runs.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

# Before numpy is loaded: one thread.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from harness import benchmark_parser, finish
from published_networks import Networks, read_networks
from scipy.stats import spearmanr

from jmsnas.arrays import FloatArray, IntArray
from jmsnas.estimators.networks.regressor import NetworkRegressor

SEED = 0
# Training networks, and number of draws: the fewer networks, the more draws differ.
DRAWS = {10: 40, 100: 40, 1000: 5}
# The largest training set that leaves enough test networks: its residuals are taken as noise of the table.
MANY, MANY_DRAWS = 2500, 3
MIN_WITHIN_10 = 0.99
MODELS = ("model", "MACs", "MACs + blocks")


@dataclass(frozen=True, slots=True)
class Score:
    """Median and worst value of a score over all draws."""

    median: float
    worst: float


@dataclass(frozen=True, slots=True)
class Result:
    """Scores of one predictor, fitted to a number of networks of a table, on the others."""

    table: str
    networks: int
    model: str
    mape: Score
    within_10: Score
    spearman: Score


def predictions(table: Networks, train: IntArray, test: IntArray) -> dict[str, FloatArray]:
    """Predict the seconds of test networks by each of MODELS, fitted to training networks."""
    regressor = NetworkRegressor(table.kinds, SEED).fit(table.counts[train], table.measured_s[train])
    found = {"model": regressor.predict(table.counts[test])}
    ones = np.ones_like(table.macs)
    for name, columns in (("MACs", (ones, table.macs)), ("MACs + blocks", (ones, table.macs, table.blocks))):
        inputs = np.stack([column / column.mean() for column in columns], axis=1)
        line, *_ = np.linalg.lstsq(inputs[train], table.measured_s[train])
        found[name] = inputs[test] @ line
    return found


def evaluate(table: Networks, networks: int, draws: int) -> list[Result]:
    """Fit all of MODELS to `networks` random networks and score them on the others, `draws` times."""
    scores: dict[str, list[tuple[float, float, float]]] = {name: [] for name in MODELS}
    for draw in range(draws):
        order = np.random.default_rng([SEED, draw]).permutation(len(table.macs))
        train, test = order[:networks], order[networks:]
        for name, predicted_s in predictions(table, train, test).items():
            errors = np.abs(predicted_s / table.measured_s[test] - 1)
            rank = float(spearmanr(predicted_s, table.measured_s[test]).statistic)
            scores[name].append((float(errors.mean()), float((errors <= 0.1).mean()), rank))
    results = []
    for name, of_draws in scores.items():
        mape, within_10, spearman = zip(*of_draws, strict=True)
        results.append(
            Result(
                table.name, networks, name,
                Score(float(np.median(mape)), max(mape)),
                Score(float(np.median(within_10)), min(within_10)),
                Score(float(np.median(spearman)), min(spearman)),
            )
        )  # fmt: skip
    return results


def beaten(results: list[Result]) -> list[str]:
    """List the scores in which the median of a baseline is better than the model's."""
    model, *others = results
    found = []
    for other in others:
        for measure, sign in (("mape", 1), ("within_10", -1), ("spearman", -1)):
            ours, theirs = (getattr(result, measure).median for result in (model, other))
            if sign * ours > sign * theirs:
                where = f"{model.table}, {model.networks} networks"
                found.append(f"{where}: {measure} {ours:.4f}, {other.model} {theirs:.4f}")
    return found


def short(with_100: Result, with_many: Result) -> list[str]:
    """Describe a fit to 100 networks that misses the bar within 10 %, beside the fit to MANY."""
    ours, most = with_100.within_10.median, with_many.within_10.median
    if ours >= MIN_WITHIN_10:
        return []
    # Errors that more networks do not lower are noise of runs, not properties of networks.
    remedy = "more networks suffice" if most >= MIN_WITHIN_10 else "no number of networks suffices"
    return [
        f"{with_100.table}: {ours:.2%} within 10 % with 100 networks, expected {MIN_WITHIN_10:.0%}; "
        f"{MANY} reach {most:.2%}: {remedy}"
    ]


@dataclass(frozen=True, slots=True)
class LeftOver:
    """Residuals log(measured / predicted) of a fit to MANY networks, on the others.

    `low` and `high` are the 1st and 99th percentile; `alike` is the correlation with the residuals of the
    same networks at other batch sizes, which is high where residuals are a property of the networks.
    """

    table: str
    low: float
    high: float
    alike: dict[str, float]


def left_over(table: Networks, others: list[Networks]) -> LeftOver:
    """Fit to MANY networks of each table, and correlate the residuals of the test networks."""
    order = np.random.default_rng([SEED, 0]).permutation(len(table.macs))
    train, test = order[:MANY], order[MANY:]
    logs = {}
    for each in (table, *others):
        model = NetworkRegressor(each.kinds, SEED).fit(each.counts[train], each.measured_s[train])
        logs[each.name] = np.log(each.measured_s[test] / model.predict(each.counts[test]))
    own = logs[table.name]
    low, high = np.percentile(own, [1, 99]).tolist()
    alike = {other.name: float(np.corrcoef(own, logs[other.name])[0, 1]) for other in others}
    return LeftOver(table.name, low, high, alike)


def print_left_over(found: LeftOver) -> None:
    alike = ", ".join(f"{correlation:+.3f} {name}" for name, correlation in found.alike.items()) or "no other"
    print(
        f"LEFT OVER  {found.table}, fitted to {MANY}: of 98 in 100 {np.expm1(found.low):+.1%} to "
        f"{np.expm1(found.high):+.1%}; correlation over the same networks: {alike}"
    )


def line(result: Result) -> str:
    mape, within_10, spearman = result.mape, result.within_10, result.spearman
    return (
        f"{result.table:32}{result.networks:>6}  {result.model:14}"
        f"{mape.median:7.2%} ({mape.worst:6.2%}){within_10.median:9.2%} ({within_10.worst:7.2%})"
        f"{spearman.median:8.3f} ({spearman.worst:6.3f})"
    )


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the published tables")
    arguments = parser.parse_args()
    try:
        tables = read_networks(arguments.tables)
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"cannot read the tables: {error}") from error
    print(f"{'table':32}{'seen':>6}  {'':14}{'MAPE':>7} {'worst':>8}{'in 10 %':>9} {'worst':>9}{'rho':>8}")
    everything: list[Result] = []
    missed: list[str] = []
    unexplained: list[LeftOver] = []
    for table in tables:
        model: dict[int, Result] = {}
        for networks, draws in {**DRAWS, MANY: MANY_DRAWS}.items():
            results = evaluate(table, networks, draws)
            print("\n".join(line(result) for result in results), flush=True)
            everything += results
            model[networks] = results[0]
            missed += beaten(results) if networks in DRAWS else []
        if table.end_to_end:
            lacking = short(model[100], model[MANY])
            if lacking:
                same = [other for other in tables if other.kinds is table.kinds and other is not table]
                unexplained.append(left_over(table, [other for other in same if other.end_to_end]))
            missed += lacking
    for each in unexplained:
        print_left_over(each)
    found = {"results": [asdict(result) for result in everything]}
    found["left_over"] = [asdict(each) for each in unexplained]
    finish(arguments, {"seed": SEED, **found}, missed)


if __name__ == "__main__":
    main()
