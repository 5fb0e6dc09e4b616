"""Evaluation: measure how well a video keeps a person, moves, and does not copy the photograph."""
