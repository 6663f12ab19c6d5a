"""pdm-edge."""
