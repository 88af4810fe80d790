"""Fitted estimators on disk: table, fit record, evaluation and model card of each."""
