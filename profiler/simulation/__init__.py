"""Devices that are not at hand: a roofline of published figures."""
