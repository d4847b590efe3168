"""What can be changed in a module, one small thing at a time, so that a test should turn red: see mutants.py.

Not changed: docstrings, type hints, asserts, versions, texts for people and what prints them.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

# What each could be by mistake
COMPARISONS: dict[type[ast.cmpop], list[ast.cmpop]] = {
    **{ast.Lt: [ast.LtE(), ast.GtE()], ast.LtE: [ast.Lt(), ast.Gt()], ast.Eq: [ast.NotEq()], ast.NotEq: [ast.Eq()]},
    **{ast.Gt: [ast.GtE(), ast.LtE()], ast.GtE: [ast.Gt(), ast.Lt()], ast.Is: [ast.IsNot()], ast.IsNot: [ast.Is()]},
    **{ast.In: [ast.NotIn()], ast.NotIn: [ast.In()]},
}
ARITHMETIC: dict[type[ast.operator], ast.operator] = {
    **{ast.Add: ast.Sub(), ast.Sub: ast.Add(), ast.Mult: ast.Div(), ast.Div: ast.Mult(), ast.FloorDiv: ast.Div()},
    **{ast.Mod: ast.Mult(), ast.Pow: ast.Mult(), ast.LShift: ast.RShift(), ast.RShift: ast.LShift()},
    **{ast.BitXor: ast.BitOr(), ast.BitAnd: ast.BitOr()},
}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}
UNTOLD = {"print", "warn", "debug", "info", "warning", "TypeVar"}
UNCHANGED = {"version", "strict", "encoding", "thread_name_prefix"}  # keywords; `strict` of zip, for what can't differ
SENTENCE = re.compile(r"\w \w")


class Change(NamedTuple):
    """The bytes [start, end) of a module become `text`."""

    start: int
    end: int
    text: str


def others(node: ast.AST) -> Iterator[ast.AST]:
    """What an expression could be by mistake."""
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                yield from (_with(node, ops=[*ops[:i], other, *ops[i + 1 :]]) for other in COMPARISONS[type(op)])
        case ast.BoolOp(op=op, values=values):
            yield _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
            yield from (_with(node, values=rest) if len(rest) > 1 else rest[0] for rest in _without_one(values))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.BinOp(op=ast.BitOr(), left=one, right=two) | ast.IfExp(body=one, orelse=two):
            yield from (one, two)
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            yield _with(node, op=ARITHMETIC[type(op)])
        case ast.Constant(value=constant):
            yield from map(ast.Constant, _constants(constant))
        case ast.JoinedStr(values=values):
            yield from (_with(node, values=rest) for rest in _without_one(values, ast.FormattedValue))
        case ast.Dict(keys=keys, values=values):
            for some, rest in zip(_without_one(keys), _without_one(values), strict=True):
                yield _with(node, keys=some, values=rest)
        case ast.List(elts=items, ctx=ast.Load()) | ast.Set(elts=items):
            yield from (_with(node, elts=rest) for rest in _without_one(items))
        case ast.Tuple(elts=items) if all(isinstance(item, ast.Constant | ast.Starred) for item in items):
            yield from (_with(node, elts=rest) for rest in _without_one(items))
        case ast.Call(func=func, keywords=keywords):
            for i, keyword in enumerate(keywords):
                if not _untouched(keyword):
                    yield _with(node, keywords=keywords[:i] + keywords[i + 1 :])
            if isinstance(func, ast.Name) and func.id in CALLS:
                yield _with(node, func=ast.Name(CALLS[func.id]), keywords=[] if func.id == "sorted" else keywords)
        case ast.Slice(lower=lower, upper=upper):
            yield from (_with(node, **{name: None}) for name, end in (("lower", lower), ("upper", upper)) if end)


def _constants(value: Any) -> list[Any]:
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, value - 1] if value > 1 else [value + 1]
        case float():
            return [value + 1]
        case str():
            return ["" if value else "x"]
        case bytes():
            return [b"" if value else b"x"]
    return []


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    other = copy.copy(node)
    vars(other).update(fields)
    return other


def _without_one(items: Sequence[Any], kind: type = object) -> list[list[Any]]:
    return [[*items[:i], *items[i + 1 :]] for i, item in enumerate(items) if isinstance(item, kind)]


def _untouched(node: ast.AST, raised: bool = False) -> bool:
    match node:
        case ast.Constant(value=str() as text):
            return bool(SENTENCE.search(text))
        case ast.JoinedStr():
            return raised
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in UNTOLD
        case ast.Expr(value=ast.Call() | ast.Constant() as value):
            return isinstance(value, ast.Constant) or _untouched(value)
        case ast.FunctionDef(name=name):
            return name in ("__repr__", "__str__")
        case ast.Assign(targets=[ast.Name(id="VERSION")]):
            return True
        case ast.keyword(arg=name):
            return name in UNCHANGED
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
    return isinstance(node, ast.Assert | ast.Delete | ast.Import | ast.ImportFrom)


class Finder:
    """All changes of one module."""

    def __init__(self, source: bytes) -> None:
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def changes(self, node: ast.AST, raised: bool = False, inside: bool = False) -> Iterator[Change]:
        """`raised`: below a raise, where f-strings are texts for people; `inside`: of a function."""
        if _untouched(node, raised):
            return
        if isinstance(node, ast.stmt | ast.excepthandler | ast.comprehension):
            yield from self._statement(node, inside)
        yield from (self._put(node, ast.unparse(other)) for other in others(node))
        for child in _children(node):
            deeper = inside or isinstance(node, ast.FunctionDef)
            yield from self.changes(child, raised or isinstance(node, ast.Raise), deeper)

    def _statement(self, node: ast.stmt | ast.excepthandler | ast.comprehension, inside: bool) -> Iterator[Change]:
        match node:
            case ast.If(test=test) | ast.While(test=test):
                yield from (self._put(test, text) for text in ("False", "True")[: 1 + isinstance(node, ast.If)])
            case ast.comprehension(ifs=tests):
                yield from (self._put(test, "True") for test in tests)
            case ast.Return(value=ast.expr()):
                yield self._put(node, "return None")
            case ast.AugAssign(op=op):
                yield self._put(node, "pass")
                if type(op) in ARITHMETIC:
                    yield self._put(node, ast.unparse(_with(node, op=ARITHMETIC[type(op)])))
            case ast.Raise() | ast.Continue() | ast.Break() | ast.Expr() | ast.Assign() | ast.AnnAssign() if inside:
                yield self._put(node, "pass")
            case ast.ExceptHandler(body=body):
                yield self._before(body[0], "raise")
            case ast.FunctionDef(body=body):
                rest = body[ast.get_docstring(node) is not None :]
                if len(rest) > 1 and not any(isinstance(part, ast.Return) and part.value for part in ast.walk(node)):
                    yield self._before(rest[0], "return")
        for decorator in getattr(node, "decorator_list", []):
            yield Change(self.starts[decorator.lineno - 1], self.starts[decorator.end_lineno], "")

    def _put(self, node: Any, text: str) -> Change:
        start = self.starts[node.lineno - 1] + node.col_offset
        end = self.starts[node.end_lineno - 1] + node.end_col_offset
        return Change(start, end, text if isinstance(node, ast.stmt | ast.Slice) else f"({text})")

    def _before(self, node: ast.stmt, text: str) -> Change:
        start = self.starts[node.lineno - 1] + node.col_offset
        return Change(start, start, f"{text}\n{' ' * node.col_offset}")


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """All but type hints, decorators and what f-strings hold, whose places in the source Python doesn't tell."""
    hidden = {"annotation", "returns", "decorator_list"}
    if isinstance(node, ast.JoinedStr):
        return
    if isinstance(node, ast.Subscript) and re.match(r"[A-Z]\w*[a-z]|(list|tuple|dict|set)$", ast.unparse(node.value)):
        hidden.add("slice")
    for name, value in ast.iter_fields(node):
        if name not in hidden:
            yield from (part for part in (value if isinstance(value, list) else [value]) if isinstance(part, ast.AST))
