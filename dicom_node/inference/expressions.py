"""Which `$` expressions of a bundle are harmless: those made of the few forms listed here.

An expression is Python. These forms compute with constants, references and numbers of tensors;
none opens a file, starts a program, or reaches into an object's insides. Anything else runs only
in a bundle that an administrator has trusted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

_REFERENCE: Final = re.compile(r"@(?:[A-Za-z_]\w*|\d+)(?:(?:::|#)\w+)*")
_PLACEHOLDER: Final = "reference_"

_FORMS: Final = (
    ast.Expression,
    ast.Constant,
    ast.Name,
    ast.Load,
    ast.List,
    ast.Tuple,
    ast.Dict,
    ast.Set,
    ast.Subscript,
    ast.Slice,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.FloorDiv,
    ast.Mod,
    ast.UnaryOp,
    ast.USub,
    ast.UAdd,
    ast.Not,
    ast.BoolOp,
    ast.And,
    ast.Or,
    ast.Compare,
    ast.cmpop,
    ast.IfExp,
    ast.Lambda,
    ast.arguments,
    ast.arg,
    ast.Attribute,
    ast.Call,
    ast.keyword,
    ast.ListComp,
    ast.comprehension,
    ast.Store,
)

_BUILT_IN: Final = frozenset(
    {"abs", "bool", "dict", "float", "int", "len", "list", "max", "min", "range", "round", "set"}
    | {"sorted", "str", "sum", "tuple", "zip"}
)

_METHODS: Final = frozenset(
    {"to", "eval", "float", "half", "long", "bool", "argmax", "sum", "mean", "squeeze"}
    | {"unsqueeze", "set_target_keys", "set_box_selector_parameters"}
    | {"set_sliding_window_inferer"}
)
"""Of what a reference names: they change its numbers or settings, nothing else."""

_CALLS: Final = frozenset(
    {"torch.device", "torch.cuda.is_available", "torch.tensor", "torch.argmax", "torch.softmax"}
    | {"torch.sigmoid", "torch.cat", "torch.stack", "numpy.array", "os.path.join"}
)

_VALUES: Final = re.compile(
    r"torch\.(float(16|32|64)?|half|bfloat16|double|u?int(8|16|32|64)|long|bool)"
    r"|numpy\.(float(16|32|64)|u?int(8|16|32|64)|bool_|pi|inf|nan)|math\.(pi|inf|nan)"
)

_MODULES: Final[Mapping[str, str]] = {
    "torch": "torch",
    "monai": "monai",
    "np": "numpy",
    "numpy": "numpy",
}
"""What MONAI puts into every expression."""

_IMPORTS: Final = frozenset({"torch", "monai", "numpy", "math", "os", "glob", "json", "pathlib"})


def why_not_harmless(
    expression: str, aliases: Mapping[str, str], is_part: Callable[[str], bool]
) -> str | None:
    """Return what in an expression is beyond the harmless forms; None: nothing.

    Args:
        expression: With or without its `$`.
        aliases: Modules that the bundle imports, by the name that it gives them.
        is_part: Tells whether a dotted name may be called, as a `_target_` may.
    """
    text = _REFERENCE.sub(_PLACEHOLDER, expression.removeprefix("$").strip())
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return "it is no Python expression"
    known = {**_MODULES, **aliases}
    bound = {_PLACEHOLDER} | {
        node.arg if isinstance(node, ast.arg) else node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.arg) or (isinstance(node, ast.Name) and _is_stored(node))
    }
    if bound & known.keys():
        return "it gives a module's name to something else"
    return _first_problem(tree, known, bound, is_part)


def imported(statement: str) -> tuple[str, str] | None:
    """Return (name, module) of an import of one of the common modules; None: of another."""
    try:
        (node,) = ast.parse(statement.removeprefix("$").strip()).body
    except (SyntaxError, ValueError):
        return None
    if not isinstance(node, ast.Import) or len(node.names) != 1:
        return None
    (alias,) = node.names
    if alias.name.partition(".")[0] not in _IMPORTS:
        return None
    return (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2


def names_in(expression: str) -> frozenset[str]:
    """Return the plain names that an expression uses."""
    text = _REFERENCE.sub(_PLACEHOLDER, expression.removeprefix("$").strip())
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return frozenset()
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def _first_problem(
    tree: ast.AST,
    known: Mapping[str, str],
    bound: Iterable[str],
    is_part: Callable[[str], bool],
) -> str | None:
    names = {*bound}
    inner: set[int] = set()
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if not isinstance(node, _FORMS):
            return f"it has a form that is not among them ({type(node).__name__})"
        if isinstance(node, ast.Call):
            called = _dotted(node.func, known)
            if not _may_call(node.func, called, names, is_part):
                return f"it calls {called or ast.unparse(node.func)}"
            if any(_downloads(keyword) for keyword in node.keywords):
                return "it asks for pretrained weights from the network"
            # the name of what is called has been judged; a method's object has not
            inner |= _judged(node.func, called)
        elif isinstance(node, ast.Attribute):
            whole = _dotted(node, known)
            if whole is not None and _VALUES.fullmatch(whole):
                inner |= {id(child) for child in ast.walk(node)}
            elif whole is not None or node.attr not in ("shape", "ndim", "training"):
                return f"it uses {whole or f'.{node.attr}'}"
        elif isinstance(node, ast.Name) and node.id not in names and not _is_built_in(node):
            return f"it uses {node.id}"
    return None


def _is_built_in(node: ast.Name) -> bool:
    return node.id in _BUILT_IN


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _downloads(keyword: ast.keyword) -> bool:
    wanted = keyword.arg is None or keyword.arg.startswith("pretrained")
    off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
    return wanted and not off


def _judged(function: ast.expr, called: str | None) -> set[int]:
    if called is not None or isinstance(function, ast.Name):
        return {id(child) for child in ast.walk(function)}
    return {id(function)}


def _may_call(
    function: ast.expr, called: str | None, names: Iterable[str], is_part: Callable[[str], bool]
) -> bool:
    if called is not None:
        return called in _CALLS or is_part(called)
    if isinstance(function, ast.Name):
        return function.id in _BUILT_IN and function.id not in names
    return isinstance(function, ast.Attribute) and function.attr in _METHODS


def _dotted(node: ast.expr, known: Mapping[str, str]) -> str | None:
    """Return the whole name of something in a module; None: it is in none."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in known:
        return ".".join([known[node.id], *parts])
    return None
