"""Leader of a deployment: solve the split, ship parts, send images, compare predicted and measured times."""
