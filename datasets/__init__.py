"""Image data sets, split into training, architecture and test images."""
