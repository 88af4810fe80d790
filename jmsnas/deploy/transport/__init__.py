"""What leader and agents share: frames, encodings, certificates, addresses, links."""
