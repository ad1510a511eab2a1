"""What can go wrong, by who has to act: one base class, few subclasses."""


class FleetError(Exception):
    """Base of every error that openeo-fleet raises on purpose; its message is written for the user."""


class InvalidInput(FleetError):
    """Something the user gave is wrong; the message names the file, row, column or setting and what to do."""


class StoreUnavailable(FleetError):
    """Redis does not answer."""


class IllegalTransition(FleetError):
    """A move that `TRANSITIONS` does not have: a bug of ours, loud."""


class TransitionLost(FleetError):
    """Another delivery of the same message was first, or the user was: nothing to do."""


class NoRoom(FleetError):
    """No back-end has room for the tile now; it waits in the store."""
