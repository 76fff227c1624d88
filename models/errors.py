"""The one error that bad input raises."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message says what was found, what was expected and what would work. The command line prints it and exits with 2.
    """
