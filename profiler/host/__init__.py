"""Description of the host, its state during a measurement, core affinity and energy meters."""
