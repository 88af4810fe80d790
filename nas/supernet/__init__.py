"""Supernet training (section IV-A): gates, Lemma 1, updates of weights and architecture parameters."""
