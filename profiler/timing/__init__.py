"""How one block is timed: paired samples, under onnxruntime, torch or torchprof."""
