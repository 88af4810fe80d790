"""Timing and energy of single blocks: paired samples in onnxruntime, torch or torchprof."""
