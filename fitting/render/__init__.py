"""Pictures of a fit: a rasteriser in plain torch, the scene it draws, film and poster."""
