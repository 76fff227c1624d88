"""MDM: features, network, diffusion."""
