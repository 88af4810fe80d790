"""Measure every block of a search space on this machine, fit U(.), predict a block that was not measured."""

import jmsnas

table = jmsnas.profile("local", space="digits", budget_s=10)  # the same call again refines the same table
print(f"{len(table.rows)} blocks measured on {table.device}, the slowest:")
for row in sorted(table.rows, key=lambda row: -row.median_s)[:3]:
    print(f"  {row.block!s:32} {row.median_s * 1e3:.4f} ms, 95 % interval within {row.half_width:.1%}")

U = jmsnas.fit_estimator("local")
print(f"U(.) is off by {U.evaluation.model.mape:.1%} (MAPE) on layer geometries that it was not fitted to")

block = jmsnas.Block.parse("mb_k5_e6_skip 20->20 6x6")
seconds, (low, high) = U.predict_s([block])[0], U.interval_s([block])
print(f"{block}: {seconds * 1e3:.4f} ms, 90 % interval {low[0] * 1e3:.4f} to {high[0] * 1e3:.4f} ms")
