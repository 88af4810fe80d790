"""The agent: a server on each device that runs its part of the model."""
