"""The tree of errors a user can cause. A defect of ours is an `assert` or a `ValueError`, and is never caught."""

import reprlib


def _short_repr() -> reprlib.Repr:
    short = reprlib.Repr()  # limits are arguments from Python 3.12 on
    short.maxlevel = 3
    short.maxlist = short.maxdict = short.maxtuple = short.maxset = 8
    short.maxstring, short.maxother = 120, 400
    return short


_SHORT = _short_repr()


class MuxError(Exception):
    """Bad input: the message says what, where and the limit."""


class ConfigError(MuxError):
    """A configuration, checkpoint description or command line that cannot be served.

    Args:
      field: the offending key, so that callers can point at its line.
    """

    def __init__(self, message: str, *, field: str = ""):
        super().__init__(message)
        self.field = field


def require(holds: bool, field: str, value: object, limit: str) -> None:
    """Raises ConfigError for an option's value outside its limit."""
    if not holds:
        raise ConfigError(f"{field} must be {limit}, got {shown(value)}", field=field)


def require_within(options: object, field: str, least: float, most: float) -> None:
    """Raises ConfigError: a field of options is out of its range, both ends of which are in it."""
    value = getattr(options, field)
    require(least <= value <= most, field, value, f"{least} to {most}")


def shown(value: object) -> str:
    """A value in a message: its repr, cut short, however long, deep or entangled it is."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes out no integer of more than some thousand digits
        return "a number of thousands of digits"


def first_line(error: Exception) -> str:
    """Beginning of what an error says, or its kind if it says nothing."""
    return str(error).partition("\n")[0][:300] or type(error).__name__


class CheckpointError(MuxError):
    """Weights that do not match their description."""


class RequestError(MuxError):
    """A request that cannot be served as it is.

    Args:
      param: the client's name of the offending field.
      code: OpenAI's machine-readable word, if there is one.
      status: HTTP status the server answers with.
      retry_after_s: when the same may be asked again, of a refusal that passes.
    """

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400, retry_after_s: float | None = None
    ):
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status
        self.retry_after_s = retry_after_s

    @classmethod
    def of(cls, error: MuxError, *, code: str | None = None) -> "RequestError":
        """A client's request holds what is wrong in a configuration too (400)."""
        return cls(str(error), param=getattr(error, "field", None) or None, code=code)
