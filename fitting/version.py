"""The version of thetafit, written into every report."""

__version__ = "0.1.0"
