"""What makes a load test end with one line instead of a report.

LoadtestError
  InvalidOptionError (ValueError)   an option, or a line of the dataset, cannot be honoured
  ServerUnusableError               no server, no access, or not the model asked for
"""


class LoadtestError(Exception):
    """The message is one line that a user can act on."""


class InvalidOptionError(LoadtestError, ValueError):
    """Names the option, its value and the remedy."""


class ServerUnusableError(LoadtestError):
    """Names the server and the remedy."""
