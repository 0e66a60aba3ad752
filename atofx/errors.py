"""Every error a user of atofx can meet. Each message says what happened, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AtofxError(Exception):
    """Base of all errors raised on purpose by atofx."""


class TraceError(AtofxError):
    """The model cannot be traced; the message names the user's file and line."""


class ExampleInputError(TraceError):
    """The model itself does not run on the example inputs; the message says what it raised."""


class ModelChangedError(TraceError):
    """The model is another one than when it was traced; the message says what changed."""


class StateError(TraceError):
    """The model computes with what an earlier call left on it, which a graph cannot.

    Attributes:
        only_buffers: whether all that was left are buffers that ``forward`` puts others in the place of.
    """

    def __init__(self, message: str, *, only_buffers: bool) -> None:
        super().__init__(message)
        self.only_buffers = only_buffers


class UnsupportedOpError(AtofxError):
    """``strict=True`` met an operation that no record describes."""


class MaskError(AtofxError):
    """A mask does not fit the program (unknown group, wrong length, empty group)."""


class TargetError(AtofxError):
    """A FLOPs target cannot be reached; the message says what the least is."""


class InputSizeError(AtofxError, ValueError):
    """A module got an input of a size for which it does not compute what the model computes."""


class VerifyError(AtofxError):
    """Two models that must agree do not."""


class NoValuesError(AtofxError):
    """The model is on torch's meta device, where tensors have no values."""


class FileError(AtofxError):
    """A file is missing, truncated or not of the expected kind."""


class PickleError(AtofxError, TypeError):
    """Something cannot be pickled; the message says what to keep instead."""


class ConfigError(AtofxError):
    """A configuration value is unknown or out of range."""


class MissingError(AtofxError):
    """A library or program that an optional feature stands on is not installed; the message says what to install."""


class DataError(AtofxError):
    """A data set is missing, empty or malformed."""


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """``" (did you mean 'resnet20'?)"`` where a known word is close, else ``otherwise``."""
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else otherwise
