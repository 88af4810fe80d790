"""Search: an architecture and its split over the devices, within a deadline."""
