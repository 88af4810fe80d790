"""Given models as computational graphs of units, read from torchvision, ONNX or blocks, and their timing."""
