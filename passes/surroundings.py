"""Where a model's code can store something beside its modules: classes, globals, closures, and objects of its own."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

from atofx.passes.hooks import has_forward_hooks

#: The attributes of every module.
OF_TORCH = frozenset(vars(nn.Module()))
#: Types whose instances hold nothing.
PLAIN = frozenset({bool, int, float, str, type(None)})
_Cached = type(functools.lru_cache(len))
_GIVEN = frozenset({*sys.stdlib_module_names, "torch", "numpy", "atofx"})


class Surrounding(MutableMapping[str, Any]):
    """What something holds by name; written to, that changes."""

    def copy(self) -> dict[str, Any]:
        """What it holds now."""
        return dict(self)


#: Where attributes, globals or variables are.
Place = dict[str, Any] | Surrounding


class ClassAttributes(Surrounding):
    """The attributes of a class itself, for writing too; Python's own are left out.

    Args:
        owner: the class.
    """

    def __init__(self, owner: type) -> None:
        self._owner = owner

    def copy(self) -> dict[str, Any]:
        """What it holds now."""
        return {key: value for key, value in vars(self._owner).items() if not key.startswith("__")}

    def __getitem__(self, key: str) -> Any:
        return vars(self._owner)[key]

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self._owner, key, value)

    def __delitem__(self, key: str) -> None:
        delattr(self._owner, key)

    def __iter__(self) -> Iterator[str]:
        return (key for key in vars(self._owner) if not key.startswith("__"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class NamedGlobals(Surrounding):
    """Some of the globals of a file.

    Args:
        everything: all of them.
    """

    def __init__(self, everything: dict[str, Any]) -> None:
        self._everything = everything
        self._names: dict[str, None] = {}

    def include(self, name: str) -> None:
        """One more, which need not be there yet."""
        self._names[name] = None

    def copy(self) -> dict[str, Any]:
        """What it holds now."""
        everything = self._everything
        return {key: everything[key] for key in self._names if key in everything}

    def __getitem__(self, key: str) -> Any:
        if key not in self._names:
            raise KeyError(key)
        return self._everything[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._everything[key] = value

    def __delitem__(self, key: str) -> None:
        del self._everything[key]

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._names if key in self._everything)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Enclosed(Surrounding):
    """What a function holds of the functions around it, by the names it uses.

    Args:
        cells: of the variables.
    """

    def __init__(self, cells: dict[str, CellType]) -> None:
        self._cells = cells

    def __getitem__(self, key: str) -> Any:
        try:
            return self._cells[key].cell_contents
        except ValueError:  # nothing is in it
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: Any) -> None:
        self._cells[key].cell_contents = value

    def __delitem__(self, key: str) -> None:
        del self._cells[key].cell_contents

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._cells if key in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        try:
            self[str(key)]
        except KeyError:
            return False
        return True


def own_attributes(attributes: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What a model's author has added to a module, or to something else, but for values that hold nothing."""
    return [
        (key, value)
        for key, value in attributes.items()
        if key not in OF_TORCH
        and (kind := type(value)) not in PLAIN
        and not (kind is tuple and PLAIN.issuperset(map(type, value)))
    ]


def surroundings(modules: Iterable[nn.Module]) -> list[tuple[str, Place]]:
    """What ``forward`` and the forward hooks of modules can reach by name, each with a name of its own.

    These are attributes of classes, globals of files, what closures hold, and attributes of plain objects that a
    module, a hook or a closure has. Functions, methods and classes are followed, into other files too; torch, numpy and
    what comes with Python are not.
    """
    found = list(modules)
    return reached(found, (value for module in found for _, value in own_attributes(vars(module))))


def reached(modules: Iterable[nn.Module], held: Iterable[Any]) -> list[tuple[str, Place]]:
    """:func:`surroundings` of modules, where it is known already what they hold: the :func:`own_attributes`."""
    reach = _Reach()
    reach.add(held)
    for module in modules:
        reach.add_class(type(module))
        if has_forward_hooks(module):
            reach.add([*module._forward_hooks.values(), *module._forward_pre_hooks.values()])
    reach.follow(["forward"])
    classes = [(f"{c.__module__}.{c.__qualname__}", ClassAttributes(c)) for c in reach.classes]
    return [*classes, *reach.files.items(), *reach.held]


def cached_functions(mapping: MutableMapping[str, Any]) -> Iterator[Any]:
    """The functions with ``functools.lru_cache`` among its values."""
    return (value for value in map(_unbound, mapping.values()) if isinstance(value, _Cached))


class _Reach:
    """Which classes, and which globals of which files, functions reach by the names in their code."""

    def __init__(self) -> None:
        self.classes: dict[type, None] = {}
        self.files: dict[str, NamedGlobals] = {}
        self.held: list[tuple[str, Place]] = []
        self._known: set[int] = set()
        self._methods: dict[str, list[Any]] = {}
        self._named: set[str] = set()
        self._seen: set[FunctionType] = set()
        self._todo: list[Any] = []

    def add_class(self, kind: type) -> None:
        """A class and those it inherits from; methods are followed once their name occurs."""
        if not self._is_new(kind):
            return
        for cls in kind.__mro__:
            if cls in self.classes or _is_given(cls):
                continue
            self.classes[cls] = None
            for name, value in vars(cls).items():
                self._methods.setdefault(name, []).append(value)
                if name in self._named:
                    self._todo.append(value)

    def add(self, values: Iterable[Any]) -> None:
        """The functions and the plain objects among some values."""
        for value in values:
            if isinstance(value, functools.partial):
                self.add([value.func, *value.args, *value.keywords.values()])
            elif isinstance(value, MethodType):
                self.add([value.__func__, value.__self__])
            elif isinstance(value, FunctionType):
                self._todo.append(value)
            elif _is_plain_object(value) and self._is_new(value):
                self.held.append((type(value).__qualname__, vars(value)))
                self.add(vars(value).values())

    def _is_new(self, holder: Any) -> bool:
        """Whether nobody has asked this of it before."""
        known = id(holder) in self._known
        self._known.add(id(holder))
        return not known

    def follow(self, names: Iterable[str]) -> None:
        """All that methods of these names reach."""
        self._mention(names)
        while self._todo:
            value = _unbound(self._todo.pop())
            if isinstance(value, (FunctionType, _Cached)) and hasattr(value, "__wrapped__"):
                self._todo.append(value.__wrapped__)
            if isinstance(value, FunctionType) and value not in self._seen and not _is_given(value):
                self._seen.add(value)
                self._read(value)

    def _mention(self, names: Iterable[str]) -> None:
        for name in set(names) - self._named:
            self._named.add(name)
            self._todo += self._methods.get(name, ())

    def _read(self, function: FunctionType) -> None:
        variables = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        cells = {name: cell for name, cell in variables if self._is_new(cell)}
        if cells:
            enclosed = Enclosed(cells)
            self.held.append((function.__qualname__, enclosed))
            self.add(enclosed.values())
        names = set(_names(function.__code__))
        self._mention(names)
        self._look_up(names, function.__globals__)
        for module in [v for n in names if isinstance(v := function.__globals__.get(n), ModuleType)]:
            if not _is_given(module):
                self._look_up(names & vars(module).keys(), vars(module))

    def _look_up(self, names: Iterable[str], everything: dict[str, Any]) -> None:
        file = self.files.setdefault(str(everything.get("__name__")), NamedGlobals(everything))
        for name in names:
            if name.startswith("__"):
                continue
            file.include(name)
            value = everything.get(name)
            if isinstance(value, type):
                self._found_class(value)
            elif isinstance(value, (FunctionType, _Cached)):
                self._todo.append(value)

    def _found_class(self, kind: type) -> None:
        if not issubclass(kind, nn.Module) and not _is_given(kind):  # modules that are there are there already
            self._mention(("__init__", "__call__"))
            self.add_class(kind)


def _is_plain_object(value: Any) -> bool:
    """Whether it is of a class of the model's author, with attributes, and no module."""
    if isinstance(value, (nn.Module, Tensor, type, FunctionType, ModuleType)) or not hasattr(value, "__dict__"):
        return False
    return not _is_given(type(value))


def _unbound(value: Any) -> Any:
    """The function behind a static or class method or a property."""
    if isinstance(value, (staticmethod, classmethod)):
        return value.__func__
    return value.fget if isinstance(value, property) else value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_given(value: Any) -> bool:
    """Whether a class, a function or a file is torch's, numpy's, Python's or our own."""
    name = value.__name__ if isinstance(value, ModuleType) else value.__module__
    return str(name).split(".")[0] in _GIVEN
