"""Serve the model of 03_search.py by four agents on this machine: every term of T predicted beside measured."""

import jmsnas

served = jmsnas.deploy("example", loopback=True, requests=50)  # mutual TLS, one agent a device
for term in served.document["terms"]:
    predicted = f"{term['predicted_s'] * 1e3:.3f}" if term["predicted_s"] is not None else "-"
    print(f"{term['kind']:10} {term['where']:20} predicted {predicted:>8} ms, measured {term['measured_s'] * 1e3:.3f} ms")
print("written:", served.path.name)
