"""Settings as JSON, so that the settings of two runs can be compared.

Functions are described by their names and code, objects by their classes and settings.

The same script gives the same JSON in every process, and each time that it runs in a
process. Therefore nothing here depends on memory addresses, line numbers, the order of
sets, or on state that a function or object collects while it is used.
"""

import dataclasses
import dis
import functools
import hashlib
import json
import math
import sys
import types
from typing import Any

import numpy as np

_FRAMEWORKS = {
    "fedlab",
    "keras",
    "tensorflow",
    "tensorflow_federated",
    "numpy",
    "builtins",
    "functools",
    "math",
    "random",
}
# Longer lists and dicts, and larger arrays, are recorded by their hashes.
_MOST_ITEMS = 1000
_MOST_NUMBERS = 16
_PLAIN = (type(None), bool, int, float, str)


def plain(value: Any, traced: bool = False) -> Any:
    """Returns a setting as a JSON value.

    Args:
      value: numbers, strings, arrays, functions, objects, and lists, tuples, sets and
        dicts of them.
      traced: whether the functions in `value` only run while a graph is traced, like
        losses and metrics. The lists and dicts that such functions refer to are
        settings. Other functions may collect values in lists and dicts, which are
        therefore left out.

    Example:
      >>> plain({"rate": np.float32(0.5), "clip": None, "layers": ("a", "b")})
      {'rate': 0.5, 'clip': None, 'layers': ['a', 'b']}
    """
    return _Reader(traced).value(value)


def digest(value: Any) -> str:
    """Returns the SHA-256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def attributes(value: Any) -> dict[str, Any]:
    """Returns an object's attributes that only constructors assign, as plain values.

    Attributes that are assigned by the classes of Keras, TensorFlow and installed
    libraries are left out: `get_config` describes these objects.
    """
    return _Reader(traced=True).attributes(value)


def class_code(cls: type) -> str | None:
    """Returns the SHA-256 of the methods of a class, including inherited ones.

    Methods of libraries are left out. Without other methods, the result is None.
    """
    return _Reader(traced=True).class_code(cls)


def is_own(thing: Any) -> bool:
    """Returns whether a function or class belongs to the user's program.

    Otherwise it is part of Python or of an installed library.
    """
    module = getattr(thing, "__module__", None) or ""
    if module.partition(".")[0] in _FRAMEWORKS:
        return False
    code = getattr(thing, "__code__", None)
    file = code.co_filename if code else getattr(sys.modules.get(module), "__file__", None)
    return file is None or not any(
        part in file for part in ("site-packages", "dist-packages", f"{sys.base_prefix}/lib/python")
    )


class _Reader:
    """Describes a value and what it refers to; see `plain`."""

    def __init__(self, traced):
        self._traced = traced
        # Functions, classes and objects that are being read. They may refer to
        # themselves.
        self._open = []
        # id -> (object, its description). There may be many references to one function.
        self._read = {}

    def value(self, value):
        """A setting; see `plain`."""
        if isinstance(value, (np.floating, np.integer, np.bool_)):
            return value.item()
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, (bytes, bytearray)):
            return hashlib.sha256(value).hexdigest()
        if hasattr(value, "name") and hasattr(value, "settings"):
            return {"name": value.name, **self.value(value.settings)}
        if hasattr(value, "_asdict"):
            return self.value(value._asdict())
        if isinstance(value, (dict, list, tuple)) and len(value) > _MOST_ITEMS:
            return hashlib.sha256(repr(value).encode()).hexdigest()
        if isinstance(value, dict):
            return {
                name if isinstance(name, str) else repr(name): self.value(item)
                for name, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        if isinstance(value, (set, frozenset)):
            return sorted((self.value(item) for item in value), key=repr)
        if isinstance(value, functools.partial):
            return self._partial(value)
        return self.reference(value)

    def reference(self, value):
        """A value that a function, a class or an object refers to."""
        if isinstance(value, _PLAIN) or isinstance(value, (tuple, frozenset, bytes, np.generic)):
            return self.value(value)
        if isinstance(value, (list, dict, set)):
            return self.value(value) if self._traced else type(value).__name__
        if isinstance(value, types.ModuleType):
            return value.__name__
        if any(value is each for each in self._open):
            return getattr(value, "__qualname__", type(value).__qualname__)
        if id(value) not in self._read:
            self._open.append(value)
            self._read[id(value)] = value, self._reference(value)
            self._open.pop()
        return self._read[id(value)][1]

    def _reference(self, value):
        value = getattr(value, "python_function", value)  # of a tf.function
        if isinstance(value, functools.partial):
            return self._partial(value)
        if isinstance(value, types.MethodType):
            return [self.reference(value.__func__), self.reference(value.__self__)]
        if isinstance(value, type):
            code = self.class_code(value)
            name = value.__qualname__
            return name if code is None else {"class": name, "code": code}
        if isinstance(value, types.FunctionType):
            name = value.__qualname__
            return {"function": name, "code": self.code(value)} if is_own(value) else name
        if hasattr(value, "assign"):
            return "variable"  # its value is state
        if hasattr(value, "as_list"):  # tf.TensorShape
            return value.as_list() if value.rank is not None else None
        if hasattr(value, "as_numpy_dtype"):  # tf.DType
            return value.name
        if isinstance(value, np.dtype):
            return value.name
        if isinstance(value, np.ndarray) or (hasattr(value, "numpy") and hasattr(value, "dtype")):
            return _array(np.asarray(value))
        if callable(getattr(value, "fingerprint", None)):
            return value.fingerprint()
        if hasattr(value, "__qualname__"):  # a function that is not written in Python
            return value.__qualname__
        code = self.class_code(type(value))
        if code is None:
            return type(value).__qualname__
        return {"class": type(value).__qualname__, "code": code, **self.attributes(value)}

    def _partial(self, value):
        function = value.func
        described = self.reference(function)
        name = type(function).__qualname__
        if hasattr(function, "__name__"):
            name = function.__name__.lstrip("_")
        has_code = isinstance(described, dict) and "code" in described
        own = {"code": described["code"]} if has_code else {}
        positional = {"args": self.value(list(value.args))} if value.args else {}
        return {"name": name, **own, **positional, **self.value(value.keywords)}

    def code(self, function):
        """The SHA-256 of a Python function's code, default values and references."""
        code = function.__code__
        loaded, stored = _names(code)
        defaults = [
            *(function.__defaults__ or ()),
            *sorted((function.__kwdefaults__ or {}).items()),
        ]
        outer = {}
        for name, cell in zip(code.co_freevars, function.__closure__ or ()):
            try:
                outer[name] = cell.cell_contents
            except ValueError:  # empty, because the function is being defined
                continue
        names = {
            name: function.__globals__[name] for name in loaded if name in function.__globals__
        } | outer
        # A name that the function assigns as well is a counter or a cache.
        references = {
            name: self.reference(value)
            for name, value in sorted(names.items())
            if name not in stored
        }
        return digest(
            [_instructions(code), [self.value(default) for default in defaults], references]
        )

    def class_code(self, cls):
        """See the function of this name."""
        codes = []
        for base in cls.__mro__:
            if not is_own(base):
                continue
            self._open.append(base)
            for name, member in sorted(vars(base).items()):
                for function in _functions(member):
                    codes.append([base.__qualname__, name, self.code(function)])
            self._open.pop()
        return digest(codes) if codes else None

    def attributes(self, value):
        """See the function of this name."""
        if dataclasses.is_dataclass(value):
            names = {field.name for field in dataclasses.fields(value)}
        else:
            set_once, set_later = set(), set()
            for base in filter(is_own, type(value).__mro__):
                for name, member in vars(base).items():
                    for function in _functions(member):
                        (set_once if name == "__init__" else set_later).update(
                            _attributes(function.__code__)
                        )
            names = set_once - set_later
        found = {
            name: getattr(value, "__dict__", {})[name]
            for name in sorted(names)
            if name in getattr(value, "__dict__", {})
        }
        return {name.lstrip("_"): self.reference(each) for name, each in found.items()}


def _functions(member):
    """The functions that a member of a class consists of."""
    candidates = (
        member,
        getattr(member, "__func__", None),
        *(getattr(member, part, None) for part in ("fget", "fset")),
    )
    return [each for each in candidates if isinstance(each, types.FunctionType)]


def _nested(code):
    return [each for each in code.co_consts if isinstance(each, types.CodeType)]


def _instructions(code):
    """The contents of a code object without its position in a file."""
    constants = [
        _instructions(each) if isinstance(each, types.CodeType) else _constant(each)
        for each in code.co_consts
    ]
    return [code.co_code.hex(), constants, list(code.co_names), list(code.co_freevars)]


def _constant(value):
    shown = sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)
    return f"{type(value).__name__} {shown}"


def _names(code):
    """The names that a code object, and the code objects inside it, read and assign.

    Returns:
      ({globals that are read}, {globals and outer variables that are assigned}).
    """
    loaded, stored = set(), set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            loaded.add(instruction.argval)
        elif instruction.opname in ("STORE_GLOBAL", "STORE_DEREF"):
            stored.add(instruction.argval)
    for inner in _nested(code):
        more_loaded, more_stored = _names(inner)
        loaded |= more_loaded
        stored |= more_stored
    return loaded, stored


def _attributes(code):
    """The attributes that a code object, and the code objects inside it, assign."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_ATTR"}
    return names.union(*map(_attributes, _nested(code)))


def _array(array):
    if array.dtype.hasobject:
        return hashlib.sha256(repr(array.tolist()).encode()).hexdigest()
    if array.size <= _MOST_NUMBERS and array.dtype.kind in "biufSU":
        values = array.tolist()
        return values if array.dtype.kind != "S" and _finite(values) else repr(values)
    return hashlib.sha256(
        f"{array.dtype.name} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
    ).hexdigest()


def _finite(values):
    if isinstance(values, list):
        return all(map(_finite, values))
    return not isinstance(values, float) or math.isfinite(values)
