"""Explanation of a split: its cost, its terms, its layers, and the verdict over all policies."""
