"""Plain arithmetic: a safe evaluator."""

import ast
import operator
import re
from collections.abc import Callable

from artrag.errors import CalculationError

LONGEST_EXPRESSION = 200
LARGEST_EXPONENT = 64
LARGEST_VALUE = 1e18

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_SPELLING = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": " ** ", "$": " ", "€": " ", "£": " "})
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_PERCENT = re.compile(r"(?<!\d)(\d+(?:\.\d+)?)\s*%(?!\s*[\d(])")


def evaluate(expression: str) -> float:
    """The value of a plain arithmetic expression.

    Understands `+ - * / // % **`, brackets, `x × ÷ ^`, thousands separators, currency signs and per cent.

    Raises:
        CalculationError: on anything else (names, calls, attributes, ...), on expressions over
            200 characters, on exponents over 64 and on results over 1e18.
    """
    text = normalise(expression)
    if not text or len(text) > LONGEST_EXPRESSION:
        raise CalculationError(
            f"cannot calculate {expression[:60]!r}: give 1 to {LONGEST_EXPRESSION} characters of arithmetic"
        )
    try:
        value = _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise CalculationError(
            f"cannot calculate {expression!r}: write plain arithmetic such as '12 * (3 + 4)'"
        ) from None
    except ZeroDivisionError:
        raise CalculationError(f"cannot calculate {expression!r}: it divides by zero") from None
    except OverflowError:
        raise CalculationError(f"cannot calculate {expression!r}: its value is over {LARGEST_VALUE:g}") from None
    return value


def written(value: float) -> str:
    """A number as people write it: 36, 0.3, 1059960."""
    return f"{value:.10g}"


def normalise(expression: str) -> str:
    """The expression in Python's own spelling."""
    text = _THOUSANDS.sub("", expression.strip().translate(_SPELLING))
    text = re.sub(r"(?<=[\d)\s])[xX](?=[\d(\s])", "*", text)
    return _PERCENT.sub(r"(\1/100)", text).strip()


def _value(node: ast.expr) -> float:
    value: float
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        value = node.value
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow) and abs(right) > LARGEST_EXPONENT:
            raise CalculationError(f"the exponent {right:g} is over {LARGEST_EXPONENT}: use a smaller one")
        value = _BINARY[type(node.op)](left, right)
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        value = _UNARY[type(node.op)](_value(node.operand))
    else:
        raise ValueError(ast.dump(node)[:80])
    if isinstance(value, complex) or abs(value) > LARGEST_VALUE:
        raise OverflowError
    return value
