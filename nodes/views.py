"""Second room."""

NODES: list = []
