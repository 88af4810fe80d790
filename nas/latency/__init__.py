"""T of every network of a space over the devices: U(.) as arrays, E[T], and what the policy allows."""
