"""The body and the motion model."""
