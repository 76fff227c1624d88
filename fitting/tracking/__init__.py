"""Weights & Biases: runs, artifacts and what they were made from, what of a run is shown (docs/tracking.md)."""
