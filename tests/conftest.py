"""Fixtures of the whole suite: the reference folder, one thread, no network."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
os.environ.setdefault("WANDB_MODE", "offline")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with golden numbers and real motion: $THETAFIT_REFERENCE, by default ../shared beside the clone."""
    folder = Path(os.environ.get("THETAFIT_REFERENCE", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip("reference data absent (set THETAFIT_REFERENCE to the folder that holds golden/ and data/)")
    return folder
