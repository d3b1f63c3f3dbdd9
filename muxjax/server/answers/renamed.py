"""Errors of a body that was made of another one, in the names of the one that the client sent."""

from collections.abc import Mapping

from muxjax.errors import RequestError


def renamed(error: RequestError, names: Mapping[str, str]) -> RequestError:
    """The error with the client's names.

    Args:
      names: the client's name of a field, or of the beginning of a path, by ours; the first that matches counts.
    """
    param = error.param or ""
    new = next((param.replace(ours, theirs, 1) for ours, theirs in names.items() if param.startswith(ours)), param)
    new = new.replace(".function.", ".") if param.startswith("tools[") else new
    message = str(error).replace(param, new, 1) if param else str(error)
    return RequestError(message, param=new or None, code=error.code, status=error.status, retry_after_s=error.retry_after_s)
