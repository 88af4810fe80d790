"""A whole search (section V-B): two stages, the run folder, several targets."""
