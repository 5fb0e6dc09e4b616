"""Reads a pickle as text is read: every opcode only moves data about, and nothing a file names is ever called.

Python's own unpickler imports and calls what the file asks for, so that opening a model file can run a stranger's
program. This one is a small stack machine over the same opcodes. "Call f with these arguments" becomes a ``Built``
record that says just that, and only for names on an allow-list; what the record means is decided later, by our own code
(safe_pickle.py, torch_archive.py). Work and memory are bounded by the size of the file.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import CheckpointError

MAX_OPCODES = 4_000_000  #: a mesh or a checkpoint's list of tensors needs a few thousand
_MARK = object()
_LIMIT = 4000  #: bytes of one number or of one key


class Global(NamedTuple):
    """A name the file refers to. It is never looked up."""

    module: str
    name: str


class OldString(bytes):
    """A Python-2 string: text or raw array data, which only its use tells."""


@dataclass(eq=False)
class Built:
    """ "Call ``target`` with ``arguments``, then give the object ``state`` and ``items``": written down, not done."""

    target: Global
    arguments: Any
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


class PersistentId(NamedTuple):
    """A reference to data outside the pickle (torch: a storage)."""

    value: Any


class PickleMachine:
    """Runs one pickle that starts at ``position`` of ``data``; afterwards ``position`` is behind its end.

    allowed: the names that may be referred to. file: for messages. persistent: whether references to outside data may
    occur; they are collected in ``references``. ``run`` raises CheckpointError for a name off the list, for a damaged
    file, and for anything unusual.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        allowed: Collection[tuple[str, str]],
        file: str,
        position: int = 0,
        persistent: bool = False,
    ) -> None:
        self.data, self.allowed, self.file = memoryview(data), allowed, file
        self.position, self.persistent = position, persistent
        self.references: list[PersistentId] = []
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        try:
            for _ in range(MAX_OPCODES):
                opcode = self.take(1)[0]
                if opcode == ord("."):
                    return self.stack.pop()
                action = _ACTIONS.get(opcode)
                if action is None:
                    raise ValueError(f"opcode {opcode:#04x} is none that model files use")
                action(self)
        except (ValueError, TypeError, IndexError, KeyError, struct.error, OverflowError) as error:
            raise CheckpointError(
                f"{self.file} is damaged or not a model file ({error}); download it again."
            ) from error
        raise CheckpointError(f"{self.file} holds more than {MAX_OPCODES:,} instructions, so it is not a model file.")

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise ValueError("it ends early")
        piece = bytes(self.data[self.position : end])
        self.position = end
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        """Up to the next newline, which is skipped."""
        chunk = 256
        while True:
            piece = bytes(self.data[self.position : self.position + chunk])
            found = piece.find(b"\n")
            if found >= 0:
                self.position += found + 1
                return piece[:found]
            if len(piece) < chunk:
                raise ValueError("it ends early")
            chunk *= 2

    def to_mark(self) -> list[Any]:
        """What lies above the last mark; both are taken off the stack."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                items = self.stack[at + 1 :]
                del self.stack[at:]
                return items
        raise ValueError("a mark is missing")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark stands where a value should")
        return value

    def push_global(self, module: Any, name: Any) -> None:
        if isinstance(module, OldString) or isinstance(name, OldString):
            module, name = (bytes(part).decode("ascii") for part in (module, name))
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name is no text")
        if (module, name) not in self.allowed:
            raise CheckpointError(
                f"{self.file} refers to {module[:80]}.{name[:80]}, which a file of this kind never needs and "
                "which could run a program; nothing was run; get the file from its official source."
            )
        self.stack.append(Global(module, name))

    def build(self, target: Any, arguments: Any) -> None:
        if not isinstance(target, Global) or not isinstance(arguments, tuple):
            raise ValueError("it calls something that is no name")
        self.stack.append(Built(target, arguments))

    def set_state(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if not isinstance(target, Built) or target.state is not None:
            raise ValueError("it changes the state of something that has none")
        target.state = state

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ValueError("it appends to something that is no list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Built):
            target = target.items
        if not isinstance(target, dict):
            raise ValueError("it sets an item of something that is no dictionary")
        target.update(_dictionary(items))

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def put(self, index: int) -> None:
        if self.stack[-1] is _MARK:
            raise ValueError("a mark stands where a value should")
        self.memo[index] = self.stack[-1]

    def push_persistent(self, value: Any) -> None:
        if not self.persistent:
            raise ValueError("it refers to data outside the file")
        self.references.append(PersistentId(value))
        self.stack.append(self.references[-1])


def _dictionary(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError("a key has no value")
    keys = items[::2]
    if not all(key is None or isinstance(key, (str, bytes, int, float)) for key in keys):
        raise ValueError("a dictionary's key is neither text nor number")
    if any(isinstance(key, (str, bytes)) and len(key) > _LIMIT for key in keys):
        raise ValueError("a dictionary's key is too long")
    return {_text(key): value for key, value in zip(keys, items[1::2], strict=True)}


def _text(value: Any) -> Any:
    return bytes(value).decode("latin-1") if isinstance(value, OldString) else value


def _decimal(line: bytes) -> int:
    if len(line) > _LIMIT:
        raise ValueError("a number is too long")
    return int(line.rstrip(b"L"))


def _integer(machine: PickleMachine) -> None:
    line = machine.line()
    machine.stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else _decimal(line))


def _quoted(machine: PickleMachine) -> None:
    line = machine.line().strip()
    if len(line) < 2 or line[0] != line[-1] or line[0] not in b"'\"":
        raise ValueError("a text has no quotes")
    machine.stack.append(OldString(codecs.escape_decode(line[1:-1])[0]))  # type: ignore[attr-defined]


def _instance(machine: PickleMachine) -> None:
    module, name = (machine.line().decode("ascii") for _ in range(2))
    arguments = tuple(machine.to_mark())
    machine.push_global(module, name)
    machine.build(machine.pop(), arguments)


def _object(machine: PickleMachine) -> None:
    items = machine.to_mark()
    machine.build(items[0], tuple(items[1:]))


def _call(machine: PickleMachine) -> None:
    arguments = machine.pop()
    machine.build(machine.pop(), arguments)


def _named(machine: PickleMachine) -> None:
    module = machine.line().decode("utf-8")
    machine.push_global(module, machine.line().decode("utf-8"))


def _named_on_stack(machine: PickleMachine) -> None:
    name = machine.pop()
    machine.push_global(machine.pop(), name)


def _set(machine: PickleMachine) -> None:
    machine.stack.append(Built(Global("builtins", "set"), (machine.to_mark(),)))


def _add_items(machine: PickleMachine) -> None:
    items, target = machine.to_mark(), machine.stack[-1]
    if not isinstance(target, Built) or target.target != ("builtins", "set"):
        raise ValueError("it adds to something that is no set")
    target.arguments[0].extend(items)


def _pop(machine: PickleMachine) -> None:
    machine.stack.pop()


def _tuple(count: int) -> Callable[[PickleMachine], None]:
    def action(machine: PickleMachine) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return action


def _literal(value: Any) -> Callable[[PickleMachine], None]:
    return lambda machine: machine.stack.append(value)


def _sized(form: str, convert: Callable[[bytes], Any]) -> Callable[[PickleMachine], None]:
    """A length of ``form``, then as many bytes, converted."""
    return lambda machine: machine.stack.append(convert(machine.take(machine.number(form))))


def _long(data: bytes) -> int:
    if len(data) > _LIMIT:
        raise ValueError("a number is too long")
    return int.from_bytes(data, "little", signed=True)


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


_ACTIONS: dict[int, Callable[[PickleMachine], Any]] = {
    ord(key): action
    for key, action in {
        "(": _literal(_MARK), "0": _pop, "1": lambda m: m.to_mark(), "2": lambda m: m.stack.append(m.stack[-1]),
        "N": _literal(None), "\x88": _literal(True), "\x89": _literal(False),
        "I": _integer, "L": lambda m: m.stack.append(_decimal(m.line())),
        "F": lambda m: m.stack.append(float(m.line())),
        "J": lambda m: m.stack.append(m.number("i")), "K": lambda m: m.stack.append(m.number("B")),
        "M": lambda m: m.stack.append(m.number("H")), "\x8a": _sized("B", _long), "\x8b": _sized("i", _long),
        "G": lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
        "S": _quoted, "T": _sized("i", OldString), "U": _sized("B", OldString),
        "B": _sized("I", bytes), "C": _sized("B", bytes), "\x8e": _sized("Q", bytes), "\x96": _sized("Q", bytes),
        "V": lambda m: m.stack.append(m.line().decode("raw-unicode-escape")),
        "X": _sized("I", _utf8), "\x8c": _sized("B", _utf8), "\x8d": _sized("Q", _utf8),
        "]": lambda m: m.stack.append([]), "l": lambda m: m.stack.append(m.to_mark()),
        "a": lambda m: m.append([m.pop()]), "e": lambda m: m.append(m.to_mark()),
        ")": _literal(()), "t": lambda m: m.stack.append(tuple(m.to_mark())),
        "\x85": _tuple(1), "\x86": _tuple(2), "\x87": _tuple(3),
        "}": lambda m: m.stack.append({}), "d": lambda m: m.stack.append(_dictionary(m.to_mark())),
        "s": lambda m: m.set_items([m.stack.pop(-2), m.pop()]), "u": lambda m: m.set_items(m.to_mark()),
        "\x91": _set, "\x90": _add_items,
        "\x8f": lambda m: m.stack.append(Built(Global("builtins", "set"), ([],))),
        "g": lambda m: m.get(_decimal(m.line())), "h": lambda m: m.get(m.number("B")),
        "j": lambda m: m.get(m.number("I")), "p": lambda m: m.put(_decimal(m.line())),
        "q": lambda m: m.put(m.number("B")), "r": lambda m: m.put(m.number("I")), "\x94": lambda m: m.put(len(m.memo)),
        "c": _named, "\x93": _named_on_stack, "R": _call, "\x81": _call, "i": _instance, "o": _object,
        "b": lambda m: m.set_state(),
        "P": lambda m: m.push_persistent(m.line()), "Q": lambda m: m.push_persistent(m.pop()),
        "\x80": lambda m: m.take(1), "\x95": lambda m: m.take(8),
    }.items()
}  # fmt: skip
