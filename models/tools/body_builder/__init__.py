"""The steps of the body builder, one module each; models/tools/build_body.py runs them in order."""
