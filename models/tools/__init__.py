"""Tools that make the assets; run by developers, never imported by the package."""
