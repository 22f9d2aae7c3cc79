"""The claims, one file a topic."""
