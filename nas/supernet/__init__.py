"""The full tree of section IV-A: gates, Lemma 1, and the steps of weights and architecture."""
