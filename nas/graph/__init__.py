"""A network from outside as a computational graph of units: ONNX, torch, MobileNets; and its units timed."""
