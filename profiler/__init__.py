"""Measure: what every block of a search space costs on a device."""
