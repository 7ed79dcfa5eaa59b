"""The steps of a worked answer as a graph over the numbers of its question: what the step reader reads.

Each calculation is a node whose operands point to places in the question, to earlier results or to well-known
constants; further nodes stand for the numbers no step uses and for the final number. The words of an answer are left
out: nobody's style, and no appeal to a judge, is in the graph. (Deductive reading of word problems: Jie et al., 2022,
arXiv 2203.10316.)
"""

import ast
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from artrag.arithmetic import normalise
from artrag.final_answer import read_number
from artrag.working import LONGEST, NUMBER, near, read_steps

VERSION = 1
"""Raised with every change of the graph: readers trained on another one are refused."""

MOST_QUANTITIES = 48
MOST_CALCULATIONS = 18
MOST_NODES = 27
LARGEST = 1e12

OTHER, UNUSED, FINAL = 4, 5, 6
OPERATIONS = 7
"""Kinds of nodes: 0 to 3 are + - * /, then powers and remainders, numbers not used, the final number."""

AS_IT_IS, AS_ITS_WORD, PER_CENT, MORE, LESS, REST, MORE_THAN_ALL, REMAINDER, UNKNOWN = range(9)
FORMS = 9
"""How an operand comes from its source: 20% as 20, 0.2, 1.2, 0.8, 80, 120; a share of one as its rest; not at all."""

CONSTANTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 24, 25, 30, 50, 52, 60, 100, 365, 1000, 0.5, 0.25, 0.1, 0.01)
SIZES = 14
"""Numbers that say how large operands and result are, and two remarks."""


def _words() -> dict[str, tuple[float, ...]]:
    """What a word of a question may stand for in a calculation; the likeliest first."""
    small = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty"
    )
    found: dict[str, tuple[float, ...]] = {word: (float(n),) for n, word in enumerate(small.split())}
    tens = zip("thirty forty fifty sixty seventy eighty ninety hundred".split(), range(30, 110, 10), strict=True)
    found |= {word: (float(n),) for word, n in tens}
    meanings = {
        (1000.0,): "thousand",
        (1e6,): "million",
        (12.0,): "dozen dozens foot inches monthly yearly annually",
        (0.5, 2.0): "half halves halved",
        (2.0,): "twice double doubled doubles couple pair pairs both weekend weekends",
        (3.0,): "thrice triple tripled triples yard yards",
        (1 / 3, 3.0): "third thirds",
        (0.25, 4.0): "quarter fourth",
        (0.25, 4.0, 0.75): "quarters fourths",
        (0.2, 5.0): "fifth fifths",
        (1 / 6, 6.0): "sixth",
        (1 / 8, 8.0): "eighth",
        (0.1, 10.0): "tenth",
        (1.0,): "once rest remaining other",
        (7.0, 5.0, 52.0): "week weeks",
        (7.0, 52.0): "weekly",
        (5.0,): "weekday weekdays",
        (24.0, 7.0, 30.0, 365.0): "day",
        (24.0, 7.0, 30.0): "days",
        (7.0, 30.0, 365.0): "daily",
        (60.0, 24.0, 3600.0): "hour",
        (60.0, 24.0): "hours",
        (24.0,): "hourly",
        (60.0,): "minute minutes second seconds",
        (12.0, 52.0, 365.0): "year",
        (12.0, 52.0): "years annual",
        (30.0, 12.0, 4.0): "month months",
        (12.0, 3.0): "feet",
        (16.0,): "pound pounds ounces",
        (100.0,): "percent cents dollar century",
        (10.0, 0.1): "dimes",
        (10.0,): "dime decade decades",
        (5.0, 0.05): "nickels",
        (2.0, 3.0): "average",
    }
    for values, words in meanings.items():
        found |= dict.fromkeys(words.split(), values)
    return found


WORDS = _words()
_QUANTITY = re.compile(rf"(?P<fraction>\d{{1,3}}/\d{{1,3}}(?!\d))|(?P<number>{NUMBER})|(?P<word>[A-Za-z]+)")
_PER_CENT = re.compile(r"(?<!\d)(\d+(?:\.\d+)?|\.\d+)\s*%")
_OPERATIONS: dict[type[ast.operator], int] = {ast.Add: 0, ast.Sub: 1, ast.Mult: 2, ast.Div: 3}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of the question: where it begins, what it may stand for, and whether digits write it."""

    start: int
    values: tuple[float, ...]
    written: bool


@dataclass(frozen=True, slots=True)
class Operand:
    """Where a number of a calculation comes from; -1 and () stand for nowhere."""

    quantities: tuple[int, ...] = ()
    result: int = -1
    constant: int = -1
    form: int = AS_IT_IS


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its kind, its two operands, `SIZES` numbers about them, and the step of the answer (-1 for none)."""

    operation: int
    left: Operand
    right: Operand
    sizes: tuple[float, ...]
    step: int = -1


def quantities(question: str) -> list[Quantity]:
    """The numbers of a question in order, in digits and in words; the first 48."""
    found: list[Quantity] = []
    for match in _QUANTITY.finditer(question[:LONGEST]):
        if match["word"]:
            values = WORDS.get(match["word"].lower(), ())
        elif match["number"]:
            values = (float(match["number"].replace(",", "")),)
        else:
            above, below = map(float, match["fraction"].split("/"))
            values = (above / below, above, below) if below else ()
        if values and all(map(math.isfinite, values)):
            found.append(Quantity(match.start(), values, not match["word"]))
        if len(found) == MOST_QUANTITIES:
            break
    return found


def answer_graph(numbers: Sequence[Quantity], answer: str) -> list[Node]:
    """The graph of a worked answer to the question with these numbers; the final number is its last node."""
    steps = [(expression(step.text), step.stated) for step in read_steps(answer)]
    return graph(numbers, steps, read_number(answer))


def expression(text: str) -> str:
    """A step's left side as Python would write it, with per cents as shares."""
    return normalise(_PER_CENT.sub(lambda match: repr(float(match[1]) / 100), text))


def graph(numbers: Sequence[Quantity], steps: Iterable[tuple[str, float]], final: float | None) -> list[Node]:
    """The graph of calculations (expression, stated result) that end in a number (None for none)."""
    drawn = _Drawing(numbers)
    for place, (text, stated) in enumerate(steps):
        drawn.calculate(text, stated, place)
        if len(drawn.nodes) >= MOST_CALCULATIONS:
            break
    return drawn.finished(final)


class _Drawing:
    """A graph while its steps are read."""

    def __init__(self, numbers: Sequence[Quantity]) -> None:
        self.numbers = numbers
        self.results: list[float] = []
        self.nodes: list[Node] = []

    def calculate(self, text: str, stated: float, place: int) -> None:
        """Append the nodes of one calculation; one that is no plain arithmetic leaves none."""
        before = len(self.nodes)
        try:
            self._value(ast.parse(text.strip(), mode="eval").body, place)
        except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
            del self.nodes[before:], self.results[before:]
        if len(self.nodes) > before:
            last, actual = self.nodes[-1], self.results[-1]
            wrong, share = not near(stated, actual), near(stated, 100 * actual)
            remarks = (float(wrong and not share), float(wrong and share))
            self.nodes[-1] = Node(last.operation, last.left, last.right, (*last.sizes[:-2], *remarks), place)
            self.results[-1] = _bounded(stated)

    def _value(self, node: ast.expr, place: int) -> tuple[float, int]:
        """The value of an expression, and the node that it is the result of (-1 for a number)."""
        if isinstance(node, ast.BinOp):
            (left, first), (right, second) = self._value(node.left, place), self._value(node.right, place)
            value = _bounded(_calculated(node.op, left, right))
            operands = (
                Operand(result=first) if first >= 0 else self.source(left),
                Operand(result=second) if second >= 0 else self.source(right),
            )
            kind = _OPERATIONS.get(type(node.op), OTHER)
            self.nodes.append(Node(kind, *operands, (*_size(left), *_size(right), *_size(value), 0.0, 0.0), place))
            self.results.append(value)
            return value, len(self.results) - 1
        if isinstance(node, ast.UnaryOp):
            value, _ = self._value(node.operand, place)
            return (-value if isinstance(node.op, ast.USub) else value), -1
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return _bounded(float(node.value)), -1
        raise ValueError(ast.dump(node)[:80])

    def source(self, value: float) -> Operand:
        """Where a number comes from: the question, an earlier result, a form of either, or a well-known constant."""
        result = next((n for n in reversed(range(len(self.results))) if near(value, self.results[n])), -1)
        given = self._given(lambda quantity: _same(value, quantity.values[0]))
        if given or result >= 0:
            if given and result >= 0 and not _same(value, self.results[result]):
                result = -1  # near a result, but the question says this very number
            return Operand(given, result)
        if given := self._given(lambda quantity: any(_same(value, other) for other in quantity.values[1:])):
            return Operand(given, form=AS_ITS_WORD)
        for form, made in _OF_A_PERCENTAGE:
            if given := self._given(lambda q, made=made: 1 <= q.values[0] <= 200 and _same(value, made(q.values[0]))):  # type: ignore[misc]
                return Operand(given, form=form)
        for n in reversed(range(len(self.results))):
            earlier = self.results[n]
            if earlier and _same(value, earlier / 100):
                return Operand(result=n, form=PER_CENT)
            if 0 < earlier < 100 and (_same(value, 1 - earlier / 100) or _same(value, 100 - earlier)):
                return Operand(result=n, form=LESS)
            if 0 < earlier < 1 and _same(value, 1 - earlier):
                return Operand(result=n, form=REMAINDER)
        if given := self._given(lambda quantity: 0 < quantity.values[0] < 1 and _same(value, 1 - quantity.values[0])):
            return Operand(given, form=REMAINDER)
        constant = next((n for n, known in enumerate(CONSTANTS) if _same(value, known)), -1)
        return Operand(constant=constant, form=AS_IT_IS if constant >= 0 else UNKNOWN)

    def _given(self, fits: Callable[[Quantity], bool]) -> tuple[int, ...]:
        return tuple(n for n, quantity in enumerate(self.numbers) if fits(quantity))[:3]

    def finished(self, final: float | None) -> list[Node]:
        """The nodes with those of the unused numbers and of the final number."""
        nodes, results = self.nodes[:MOST_CALCULATIONS], self.results[:MOST_CALCULATIONS]
        self.results = results
        operands = [operand for node in nodes for operand in (node.left, node.right)]
        used = {place for operand in operands for place in operand.quantities}
        unused = [
            Node(UNUSED, Operand((n,)), _NOWHERE, (*_size(quantity.values[0]), *[0.0] * 10))
            for n, quantity in enumerate(self.numbers)
            if quantity.written and n not in used
        ][: MOST_NODES - 1 - len(nodes)]
        value = _bounded(final or 0.0)
        source = self.source(value) if final is not None else _NOWHERE
        built_on = {operand.result for operand in operands} | {source.result}
        loose = [n for n in range(len(nodes)) if n not in built_on]
        last = Operand(result=loose[-1]) if loose else Operand()
        ends = float(bool(nodes) and source.result == len(nodes) - 1)
        sizes = (*_size(value), *[0.0] * 4, min(len(loose), 3) / 3, 0.0, 0.0, 0.0, float(final is None), ends)
        return [*nodes, *unused, Node(FINAL, source, last, sizes)]


_NOWHERE = Operand(form=UNKNOWN)
_OF_A_PERCENTAGE: tuple[tuple[int, Callable[[float], float]], ...] = (
    (PER_CENT, lambda x: x / 100),
    (MORE, lambda x: 1 + x / 100),
    (LESS, lambda x: 1 - x / 100),
    (REST, lambda x: 100 - x),
    (MORE_THAN_ALL, lambda x: 100 + x),
)


def _calculated(operator: ast.operator, left: float, right: float) -> float:
    """The value of one operation; 0 where it has none."""
    try:
        if isinstance(operator, ast.Add):
            return left + right
        if isinstance(operator, ast.Sub):
            return left - right
        if isinstance(operator, ast.Mult):
            return left * right
        if isinstance(operator, ast.Div | ast.FloorDiv):
            return left / right
        power = left**right if isinstance(operator, ast.Pow) and abs(right) < 9 else left % right
        return power if isinstance(power, float) else 0.0  # the root of a negative number is complex
    except (ZeroDivisionError, OverflowError):
        return 0.0


def _bounded(value: float) -> float:
    return max(-LARGEST, min(LARGEST, value)) if math.isfinite(value) else 0.0


def _same(first: float, second: float) -> bool:
    return abs(first - second) <= 1e-4 * max(1.0, abs(second))


def _size(value: float) -> tuple[float, float, float, float]:
    """A number's order of magnitude, and whether it is broken, negative, at most one."""
    small = min(abs(value), 1e9)
    return math.log10(1 + small) / 3, float(abs(small - round(small)) > 1e-6), float(value < 0), float(small <= 1)
