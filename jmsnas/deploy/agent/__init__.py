"""The device's side: answers requests by the parts it was given."""
