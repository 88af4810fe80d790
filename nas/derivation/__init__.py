"""Exact derivation of the likeliest architecture whose T meets T_const: branch and bound over layers."""
