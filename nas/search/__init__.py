"""Complete searches (section V-B): two stages, run folder, several latency targets."""
