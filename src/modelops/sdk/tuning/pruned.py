"""What ends a trial early, and is no error."""


class TrialPruned(Exception):
    """Raised by an objective to end a trial that is not worth going on with."""


class Interrupted(Exception):
    """The program was told to end: the trial is given back."""
