"""A trace as one self-contained HTML page, or as a notebook cell: no script, nothing fetched, every text escaped."""

import base64
import difflib
import hashlib
import html
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from artrag.harmless import harmless, one_line
from artrag.tracing.scores import NOTED
from artrag.tracing.spans import Span
from artrag.tracing.story import Asked, SeenPassage, Story, story
from artrag.tracing.style import STYLE
from artrag.tracing.tree import CUT_OFF, Row, cost, headline, rows

MOST_STEPS = 5_000
MOST_DATA = 3_000_000
"""Characters of inputs and outputs that a page holds in all; every step gets its share."""
MOST_PAGE = 12_000_000
LONGEST_VALUE, SHORTEST_SHARE = 12_000, 400
_DEEPEST = 30
_COMPARED = 500
_ROUTE = 40
_DATA = ("inputs", "outputs", "metadata")
_STAGES = {"initial": "Draft", "refined": "Refined", "sample": "Sample", "edited": "Written by a person"}
_MARK = re.compile(r"\[(\d{1,2})\]")
_CSS = hashlib.sha256(STYLE.encode()).digest()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(_CSS).decode()}'; base-uri 'none'; form-action 'none'"
)


def as_html(spans: Iterable[Span], *, left_out: int = 0, page: bool = True) -> str:
    """The trace as HTML: for each run its answer, candidates, subquestions, passages with evidence, and every step.

    The newest run comes first. The page is bounded: long values are cut, at most 5,000 steps are shown, and what is
    missing is said.

    Args:
        spans: the steps of one or more runs.
        left_out: lines of the file that could not be read; the page says so.
        page: a whole page; False gives a fragment for a notebook cell.
    """
    spans = list(spans)
    seen = rows(spans)
    share = max(SHORTEST_SHARE, min(LONGEST_VALUE, MOST_DATA // (2 * max(1, min(len(seen), MOST_STEPS)))))
    runs: list[str] = []
    steps = size = 0
    for number, run in enumerate(_newest_first(seen)):
        run = run[: MOST_STEPS - steps]
        # A notebook shows many traces on one page: their links must not meet.
        name = f"{number}" if page else f"{zlib.crc32(run[0].span.id.encode()):x}" if run else ""
        made = _run(run, name, share, opened=not number) if run else ""
        size += len(made)
        if not run or (runs and size > MOST_PAGE):
            break
        runs.append(made)
        steps += len(run)
    notes = "".join(f'<p class="note">{note}</p>' for note in _notes(spans, seen, len(seen) - steps, left_out))
    body = f"{notes}{''.join(runs) or '<p>Nothing was traced yet.</p>'}"
    if not page:
        return f'<style>{STYLE}</style><div class="artrag-trace">{body}</div>'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>artrag trace</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><style>{STYLE}</style></head><body class="artrag-trace">'
        f"<main>{body}</main></body></html>"
    )


def _notes(spans: list[Span], seen: list[Row], unseen: int, left_out: int) -> Iterator[str]:
    if left_out:
        lines = "1 line was" if left_out == 1 else f"{left_out:,} lines were"
        yield f"{lines} left out: cut off, or not a step of a trace. What is shown here may miss steps."
    if unseen:
        yield f"{unseen:,} further steps are left out of this page; they stand in the JSON Lines file."
    known = {row.span.id for row in seen}
    if circling := sum(span.id not in known and not _is_edge(span) for span in spans):
        yield f"{circling:,} steps are their own ancestors and are left out."


def _is_edge(span: Span) -> bool:
    return len(span.outputs) == 1 and isinstance(span.outputs.get("output"), str)


def _newest_first(seen: list[Row]) -> Iterator[list[Row]]:
    """The rows, run by run."""
    end = len(seen)
    for start in reversed([n for n, row in enumerate(seen) if not row.depth]):
        yield seen[start:end]
        end = start


def _run(run: list[Row], anchor: str, share: int, *, opened: bool) -> str:
    top = run[0]
    told = story(top.span)
    asked = told.question if told else str(next(iter(top.span.inputs.values()), ""))
    name = f'<span class="name">{_safe(one_line(asked or top.span.name, 300))}</span>'
    name += f' <span class="dim">{_safe(one_line(top.span.name))}</span>' if asked else ""
    steps = "".join(_steps(run[1:], anchor, share))
    # The inputs and outputs of a run repeat what its stages show.
    own = "".join(_data(top.span, share, ("metadata",) if steps else _DATA))
    inside = _told(told, anchor) if told else _measured(top.span)
    problem = f'<p class="bad">{_safe(top.span.error)}</p>' if top.span.error else ""
    return (
        f'<details class="run"{" open" if opened else ""}><summary>{name} {_outcome(top.span, told)} '
        f'<span class="cost">{cost(top)}</span></summary><div class="inside">{problem}{_route(run)}{inside}'
        f'<h2>Steps</h2><div class="steps">{steps}{own}</div></div></details>'
    )


def _outcome(span: Span, told: Story | None) -> str:
    if span.error:
        return f'<span class="bad">{"not finished" if span.error == CUT_OFF else "failed"}</span>'
    if span.outputs.get("needs_review") is True or "__interrupt__" in span.outputs:
        return '<span class="warn">waits for a person</span>'
    if not told:
        return ""
    if told.abstained:
        return '<span class="warn">abstained</span>'
    return '<span class="good">answered</span>'


def _route(run: list[Row]) -> str:
    """The stages in a line, with the label of each edge that was chosen."""
    stages = [row for row in run if row.depth == 1]
    if len(stages) < 2:
        return ""
    items = []
    for row in stages[:_ROUTE]:
        label = f"{_safe(one_line(row.edge, 60))} " if row.edge else ""
        items.append(f'<li>{_safe(one_line(row.span.name, 60))}<span class="arrow">{label}&rarr;</span></li>')
    more = len(stages) - _ROUTE
    end = f"{more:,} more steps" if more > 0 else "end" if not run[0].span.error else "stopped"
    return f'<h2>Route</h2><ol class="route">{"".join(items)}<li class="dim">{end}</li></ol>'


def _told(told: Story, name: str) -> str:
    facts = []
    if told.confidence is not None:
        facts.append(("Confidence", f"{_meter(told.confidence)}{told.confidence:.2f}"))
    if told.reason:
        doubt = f"{_meter(told.doubt)}{told.doubt:.2f}, " if told.doubt is not None else ""
        facts.append(("Doubt", f"{doubt}{'refined' if told.refined else 'not refined'}: {_safe(told.reason)}"))
    facts += [("Decision", _safe(told.decision))] if told.decision else []
    facts += [("Stopped", _safe(told.stopped))] if told.stopped else []
    listed = "".join(f"<dt>{term}</dt><dd>{said}</dd>" for term, said in facts)
    cited = {passage.n for passage in told.passages}
    made = f'<h2>Answer</h2><p class="answer" dir="auto">{_linked(told.answer, cited, name)}</p>'
    made += f'<dl class="facts">{listed}</dl>' if listed else ""
    if told.answers:
        made += f'<h2>Candidates</h2><div class="answers">{"".join(_answers(told))}</div>'
    if told.asked:
        made += f'<h2>Subquestions</h2><ul class="asked">{"".join(map(_asked, told.asked))}</ul>'
    if told.passages:
        made += f"<h2>Passages</h2>{''.join(_passage(one, name) for one in told.passages)}"
    return made


def _measured(span: Span) -> str:
    """The scores of a run whose texts are hidden, or that answers no question."""
    facts = [(key.replace("_", " "), value) for key, value in span.metadata.items() if key in NOTED]
    listed = "".join(f"<dt>{_safe(key)}</dt><dd>{_safe(str(value))}</dd>" for key, value in facts)
    return f'<h2>Scores</h2><dl class="facts">{listed}</dl>' if listed else ""


def _asked(one: Asked) -> str:
    mark = '<b class="good">answered</b>' if one.answered else '<b class="warn">open</b>'
    found = f' <span class="dim">&rarr; {_safe(one.found)}</span>' if one.found else ""
    return f'<li dir="auto">{mark} {_safe(one.text)}{found}</li>'


def _linked(answer: str, known: set[int], name: str) -> str:
    """The answer, its `[n]` leading to the passages."""
    out, last = [], 0
    for found in _MARK.finditer(answer):
        if int(found[1]) in known:
            out.append(_safe(answer[last : found.start()]))
            out.append(f'<a href="#passage-{name}-{int(found[1])}">[{int(found[1])}]</a>')
            last = found.end()
    return "".join([*out, _safe(answer[last:])])


def _answers(told: Story) -> Iterator[str]:
    """The candidates side by side; against the draft, what went is struck and what came is underlined."""
    answers = told.answers
    best = (
        '<span class="warn">best, not trusted</span>' if told.abstained else '<span class="good">&check; chosen</span>'
    )
    draft = next((one.text for one in answers if one.stage == "initial"), "")
    others = [one.text for one in answers if one.stage != "initial"]
    for one in answers:
        if one.stage == "initial":
            text = _compared(one.text, others[-1], "del") if len(others) == 1 else _safe(one.text)
        else:
            text = _compared(one.text, draft, "ins") if draft else _safe(one.text)
        score = f"{_meter(one.score)}{one.score:.2f}" if one.score is not None else "not judged"
        mark = f" {best}" if one.chosen else ""
        yield (
            f"<div{' class=chosen' if one.chosen else ''}><b>{_safe(_STAGES.get(one.stage, one.stage))}</b>{mark} "
            f'<span class="cost">Truster {score}</span><p class="said" dir="auto">{text}</p></div>'
        )


def _compared(text: str, other: str, tag: str) -> str:
    """The text with the words that the other one has not."""
    mine, theirs = re.findall(r"\s*\S+", text), re.findall(r"\s*\S+", other)
    if max(len(mine), len(theirs)) > _COMPARED:
        return _safe(text)
    before, after = ([word.strip() for word in words] for words in (theirs, mine))
    out = []
    for what, _, _, start, end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        words = "".join(mine[start:end])
        bare = words.lstrip()
        gap = words[: len(words) - len(bare)]
        out.append(_safe(words) if what == "equal" or not bare else f"{_safe(gap)}<{tag}>{_safe(bare)}</{tag}>")
    return "".join(out) + _safe(text[len("".join(mine)) :])


def _passage(one: SeenPassage, name: str) -> str:
    scores = ", ".join(f"{_safe(arm)} {_safe(value)}" for arm, value in one.scores)
    context = f'<p class="dim" dir="auto">{_safe(one.context)}</p>' if one.context else ""
    text, last = [], 0
    for mark in one.marks:
        text.append(_safe(one.text[last : mark.start]))
        told = f"{mark.share:.0%} of &ldquo;{_safe(one_line(mark.claim, 200))}&rdquo;"
        text.append(f'<mark title="{told}">{_safe(one.text[mark.start : mark.end])}</mark>')
        last = mark.end
    text.append(_safe(one.text[last:]))
    best = max((mark.share for mark in one.marks), default=0.0)
    cited = (
        f' <span class="good">cited{f", bears out {best:.0%} of the sentence" if best else ""}</span>'
        if one.cited
        else ""
    )
    return (
        f'<details class="passage" id="passage-{name}-{one.n}"{" open" if one.cited else ""}><summary><b>[{one.n}]</b> '
        f'{_safe(one.source)}{cited}</summary><div><p class="cost">{scores}</p>{context}'
        f'<p class="text" dir="auto">{"".join(text)}</p></div></details>'
    )


def _steps(below: list[Row], anchor: str, share: int) -> Iterator[str]:
    """The steps as nested details; below a depth they stand side by side, which browsers prefer."""
    opened: list[int] = []
    for n, row in enumerate(below):
        depth = min(row.depth, _DEEPEST)
        while opened and opened[-1] >= depth:
            opened.pop()
            yield "</div></details>"
        edge = f' <span class="edge">&rarr; {_safe(one_line(row.edge, 60))}</span>' if row.edge else ""
        # A graph within a graph tells its own story; its stages and the node around it do not.
        told = story(row.span) if "question" in row.span.outputs and _stages(below, n) > 1 else None
        yield (
            f'<details><summary><div class="row"><span class="name">{_safe(one_line(row.span.name))}</span>'
            f'<span class="why" dir="auto">{_said(row.span)}{edge}</span><span class="cost">{cost(row)}</span>'
            f'{_bar(row)}</div></summary><div class="inside">{_told(told, f"{anchor}-{n}") if told else ""}'
            f"{''.join(_data(row.span, share))}"
        )
        opened.append(depth)
    yield "</div></details>" * len(opened)


def _stages(below: list[Row], at: int) -> int:
    """How many steps stand directly below one; counting ends at two."""
    found = 0
    for row in below[at + 1 : at + 1000]:
        if row.depth <= below[at].depth or found > 1:
            break
        found += row.depth == below[at].depth + 1
    return found


def _said(span: Span) -> str:
    if span.error:
        return f'<span class="bad">{_safe(one_line(span.error, 300))}</span>'
    return _safe(headline(span))


def _data(span: Span, share: int, names: tuple[str, ...] = _DATA) -> Iterator[str]:
    """What went in and came out, cut to a share of the page."""
    for name in names:
        if data := getattr(span, name):
            text = _written(data, name)
            cut = f"\n... {len(text) - share:,} more characters" if len(text) > share else ""
            yield (
                f'<details class="data"><summary class="dim">{name}</summary>'
                f'<pre dir="auto">{_safe(text[:share] + cut)}</pre></details>'
            )


def _written(data: dict[str, Any], name: str) -> str:
    """Data as lines, what is empty left out; in the state that a stage was given, so is what is not yet decided."""
    lines = []
    for key, value in data.items():
        if value in (None, "", [], {}) or (name == "inputs" and (not value or key == "usage")):
            continue
        if isinstance(value, list):
            said = "".join(f"\n- {_compact(one)}" for one in value)
        elif isinstance(value, dict):
            said = "".join(f"\n- {item}: {_compact(one)}" for item, one in value.items())
        else:
            said = f" {_compact(value)}" if "\n" not in str(value) else f"\n{value}"
        lines.append(f"{key}:{said}")
    return "\n".join(lines)


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _meter(share: float | None) -> str:
    """A share of one as a bar."""
    width = round(100 * min(max(share or 0.0, 0.0), 1.0))
    return _rects("meter", 0, width)


def _bar(row: Row) -> str:
    """When a step ran within its run."""
    whole = row.whole or 1.0
    start = min(max((row.span.started - row.first) / whole, 0.0), 1.0)
    return _rects("time", round(100 * start), max(1, round(100 * min(row.span.seconds / whole, 1 - start))))


def _rects(name: str, start: int, width: int) -> str:
    return (
        f'<svg class="{name}" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="100" height="6" rx="1"></rect>'
        f'<rect x="{min(start, 99)}" width="{width}" height="6" rx="1"></rect></svg>'
    )


def _safe(text: str) -> str:
    return html.escape(harmless(text))
