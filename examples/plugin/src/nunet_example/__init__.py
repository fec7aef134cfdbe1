"""One part of each kind that a plugin can bring to a node."""
