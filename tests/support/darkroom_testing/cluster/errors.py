"""The two ways a test cluster does not come up: this machine lacks something, or something broke."""


class ClusterError(Exception):
    """A command of the cluster failed; the message holds the end of its log."""


class ClusterUnavailableError(ClusterError):
    """The machine cannot run the tier; the message says what is missing and how to get it."""
