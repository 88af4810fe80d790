"""How good U(.) is on blocks it never saw, beside simpler predictors."""
