"""The one exception that means "the user's input is at fault", and its like where it is another process."""


class UserError(ValueError):
    """Says in one line what is wrong, where, and what to do. The command line prints it and exits with code 2."""


class PeerLostError(UserError):
    """Another process of the run is gone, which all that are left notice."""
