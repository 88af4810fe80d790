"""Split MobileNetV2 over a phone, an edge server and the cloud: the optimal split beside other methods."""

import jmsnas

topology = jmsnas.load_topology("chain")  # Table I of the paper; its four devices are SIMULATED
print(" -> ".join(device.name for device in topology.devices))

model = jmsnas.load_model("mobilenet_v2")  # or a torchvision classifier, an .onnx file, a finished run
for method in ("optimal", "hivemind", "neurosurgeon", "cloud", "device"):
    plan = jmsnas.split(model, "chain", method=method, policy="relay")
    units = [plan.devices.count(m) for m in range(topology.M)]
    proof = "proven optimal" if plan.proven else ""
    print(f"{method:13} T = {plan.timeline.latency_s * 1e3:7.2f} ms, units on each device {units} {proof}")
