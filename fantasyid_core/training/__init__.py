"""Training: synthetic talking heads as data."""
