"""What keeps a model from being evaluated, in words."""


class EvaluationError(Exception):
    """An evaluation can't begin, or a figure can't be had; the message names the option and the fix."""
