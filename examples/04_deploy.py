"""Serve the model of 03_search.py by four agents on this machine: each term of T predicted and measured."""

import jmsnas

served = jmsnas.deploy("example", loopback=True, requests=50)  # mutual TLS, one agent a device
for term in served.document["terms"]:
    predicted = f"{term['predicted_s'] * 1e3:.3f}" if term["predicted_s"] is not None else "-"
    name, measured = f"{term['kind']} {term['where']}", f"{term['measured_s'] * 1e3:.3f}"
    print(f"{name:26} predicted {predicted:>7} ms, measured {measured:>7} ms")
print("written:", served.path.name)
