"""thetafit's engine: motion joints in, a body that moves out.

from fitting import fit
result = fit(joints)  # (frames, 22, 3) metres, y up
result.save("walk")  # walk_smpl_params.npy, walk.npz, walk.glb
"""

from typing import Any

__all__ = ["FitResult", "Stream", "fit"]


def __getattr__(name: str) -> Any:
    """Import on first use: `import fitting` stays light."""
    if name == "fit":
        from fitting.api import fit

        return fit
    if name == "FitResult":
        from fitting.result import FitResult

        return FitResult
    if name == "Stream":
        from fitting.stream import Stream

        return Stream
    raise AttributeError(f"module 'fitting' has no attribute {name!r}")
