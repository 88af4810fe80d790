"""What is shipped: exported parts, their signed manifests, and how they are run."""
