"""Changing the fields of frozen values by name, from JSON or from text."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def changed(value: T, changes: dict[str, Any], what: str) -> T:
    """A copy of a dataclass's value with some fields changed; text is read as the field's type.

    A field whose metadata has `read` is read by that function instead.

    Raises:
        ValueError: for an unknown field or a value that does not fit.
    """
    known: dict[str, Callable[[str, Any], Any]] = {
        field.name: field.metadata.get("read") or _reader(type(getattr(value, field.name))) for field in fields(value)
    }
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise ValueError(f"Unknown {what} {', '.join(unknown)}; there are {', '.join(known)}")
    return replace(value, **{name: known[name](name, given) for name, given in changes.items()})


def _reader(kind: type) -> Callable[[str, Any], Any]:
    def read(name: str, value: Any) -> Any:
        if kind is bool:
            return read_bool(name, value)
        try:
            return kind(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{name}: {error}") from error

    return read


def read_bool(name: str, value: Any) -> bool:
    """True or false.

    Raises:
        ValueError: for anything else.
    """
    if str(value).lower() not in {"true", "false", "1", "0"}:
        raise ValueError(f"{name} is true or false, not {value!r}")
    return str(value).lower() in {"true", "1"}


def read_seconds_or_always(name: str, value: Any) -> float:
    """Seconds; true stands for always, as any negative number does, and false for never, as 0 does.

    Raises:
        ValueError: for anything else.
    """
    if str(value).lower() in {"true", "false"}:
        return -1.0 if read_bool(name, value) else 0.0
    seconds: float = _reader(float)(name, value)
    return seconds
