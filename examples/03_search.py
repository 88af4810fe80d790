"""Search an architecture and its split over four devices, so that T <= T_const, and write the report."""

import jmsnas

config = jmsnas.SearchConfig(warmup_epochs=2, search_epochs=4, final_epochs=4)  # T_const: middle of the range
run = jmsnas.search("chain", config=config, name="example")  # the same call again goes on where it stopped

target, derived = run.target, run.derived
print(
    f"T_const {target.t_const_s * 1e3:.3f} ms, T {derived.latency_s * 1e3:.3f} ms, optimal: {derived.optimal}"
)
print(f"accuracy on the test images {run.accuracy.test:.1%}, {run.macs / 1e6:.2f} million MACs")
for term in derived.terms:
    layers = f"layers {term.layers[0]} to {term.layers[-1]}" if term.layers else "no layer"
    compute_ms, transfer_ms = term.tau_s * 1e3, term.epsilon_s * 1e3
    print(f"  {term.device:8} {layers:16} computes {compute_ms:.3f} ms, sends {transfer_ms:.3f} ms")

print("report:", jmsnas.report(run).name)  # one HTML page, in the run's folder
