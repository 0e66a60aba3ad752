"""Records: data that is made often and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        """At run time nothing has to be known of it."""
        return lambda decorator: decorator


T = TypeVar("T")


@dataclass_transform(frozen_default=True, eq_default=False)
def record(cls: type[T]) -> type[T]:
    """A dataclass compared by identity, which type checkers take for frozen.

    Assignments are not refused at run time: for that, every field would have to be set in a way that takes several
    times as long, and a graph has thousands of records.
    """
    return dataclass(eq=False, slots=True)(cls)
