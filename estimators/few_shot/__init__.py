"""Estimators from a few measured blocks: which blocks to measure, and when to stop."""
