"""Serial fan-out of a mesh: copies sent one after another over one uplink."""
