"""Wrong options: what could stand in an answer's place and is not right."""

import re
from collections.abc import Iterable

from artrag.text import numbers
from artrag.training.candidates import Span, is_number, kind_of

FACTORS = (2.0, 0.5, 1.5, 3.0, 0.75, 1.25, 4.0)
"""By which a number is changed where there are too few like it."""
YEARS = (1, -2, 3, -4, 6, -1, 2)
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_MONTH = re.compile(rf"\b(?:{MONTHS})\b")
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def distractors(answer: str, others: Iterable[Span], passage: str, most: int) -> list[str]:
    """Wrong options: spans of other passages of the answer's form, that its passage lacks; the likest first.

    A number keeps its unit, its decimals and what stands around it; where too few are like it, it is changed itself.
    A term keeps its pattern of letters, a name its number of words. A phrase has none: nothing is surely like it.
    """
    kind, form = kind_of(answer), form_of(answer)
    if kind == "phrase":
        return []
    known, within = {answer.lower()}, passage.lower()
    fitting: list[tuple[float, str]] = []
    for span in others:
        low = span.text.lower()
        if span.kind != kind or low in known or low in within or form_of(span.text) != form:
            continue
        if kind == "number" and numbers(low) == numbers(answer):
            continue
        if kind != "number" and (low in answer.lower() or answer.lower() in low):
            continue
        known.add(low)
        fitting.append((_distance(span.text, answer), span.text))
    found = [text for _, text in sorted(fitting)[:most]]
    if kind == "number":
        made = (text for text in _changed(answer) if text.lower() not in known and text.lower() not in within)
        found += list(made)[: most - len(found)]
    return found


def form_of(text: str) -> str:
    """What a wrong option shares with the right one: a number all but its value, a term its pattern of letters."""
    if is_number(text):
        return _NUMBER.sub(_figure, text).lower().replace(" %", "%")
    if kind_of(text) == "name":
        return f"{len(text.split())} words"
    return re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]+", "A", re.sub(r"\d+", "1", text)))


def _figure(found: re.Match[str]) -> str:
    """A year, or how many decimals there are."""
    whole, _, decimals = found[0].partition(".")
    if _is_year(found[0]):
        return "#year"
    lead = "0" if len(whole) > 1 and whole.startswith("0") else ""  # "05" is a part of something
    return f"#{lead}.{len(decimals)}"


def _is_year(figure: str) -> bool:
    return len(figure) == 4 and figure.isdigit() and "1500" <= figure <= "2100"


def _distance(one: str, other: str) -> float:
    if is_number(one):
        first, second = (float(_NUMBER.findall(text)[0].replace(",", "")) for text in (one, other))
        return abs(first - second) / max(first, second, 1e-9)
    return abs(len(one) - len(other))


def _changed(answer: str) -> list[str]:
    """The answer with other numbers; of a date the year and the day."""
    made, date = [], bool(_MONTH.search(answer))
    for factor, years in zip(FACTORS, YEARS, strict=True):

        def other(found: re.Match[str], factor: float = factor, years: int = years) -> str:
            text = found[0]
            if _is_year(text):
                return str(int(text) + years)
            if date and text.isdigit():
                return str((int(text) + years) % 28 or 28)
            value = float(text.replace(",", "")) * factor
            decimals = len(text.partition(".")[2])
            return f"{value:,.{decimals}f}" if "," in text else f"{value:.{decimals}f}"

        text = _NUMBER.sub(other, answer)
        shares = "%" in answer and any(value > 100 for value in numbers(text))
        if text != answer and numbers(text) != numbers(answer) and not shares:
            made.append(text)
    return list(dict.fromkeys(made))
