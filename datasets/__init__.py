"""Images to train on, split for weights, architecture and test."""
