"""Communication between leader and agents: messages, tensor encodings, certificates, addresses, links."""
