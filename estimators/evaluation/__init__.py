"""Evaluation of latency estimators on held-out blocks, beside baseline predictors."""
