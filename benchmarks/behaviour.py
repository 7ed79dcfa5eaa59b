"""Fine-tuning for behaviour: a model that takes tickets in one fixed format, before and after, and with bad data.

    python benchmarks/behaviour.py --out build/behaviour

Tickets are made by rule; a desk answers each with one line, `[priority] component: action`, where the priority follows
from what happens, the component from what it happens to, and the action from both. The model is told so in a prompt
(with three worked examples), or fine-tuned on `--rows` of them with 0, 10 and 30% of the answers taken from other
tickets. Held-out tickets use other sentences. One JSON line a system: the share in the format, and of right fields,
with 95% intervals over tickets.
"""

import argparse
import json
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from artrag.evaluation.intervals import bootstrap
from artrag.models import LocalChat, load_chat
from artrag.settings import EMBEDDED_BASE
from artrag.training.answerer import HOW, train_answerer
from artrag.training.answerer_data import Example

COMPONENTS = {
    "printer": ("the label printer", "our printer on floor two", "the receipt printer"),
    "network": ("the office wifi", "the VPN", "the line to the warehouse"),
    "billing": ("the invoice page", "the payment form", "last month's invoice"),
    "login": ("my account", "the sign-in page", "the password reset"),
}
EVENTS = {
    "high": ("has been down for everybody since this morning", "loses our data", "stopped in the middle of a delivery"),
    "normal": ("is slow most afternoons", "shows a warning now and then", "fails for one colleague"),
    "low": ("could do with a nicer colour", "has a typo in its title", "might be renamed, some day"),
}
ACTIONS = {"high": "call the customer", "normal": "answer today", "low": "put on the list"}
OPENINGS = ("Hello,", "Hi there!", "Dear desk,", "Good morning.")
CLOSINGS = ("Thanks!", "Please help.", "Regards, Ann", "See you.")
TOLD = (
    "You take tickets. Answer each with one line and nothing else: [priority] component: action. Priority is high, "
    "normal or low. Component is printer, network, billing or login. The action is 'call the customer' for high, "
    "'answer today' for normal and 'put on the list' for low."
)
LINE = re.compile(r"\[(high|normal|low)\] (printer|network|billing|login): (.+)")

Ticket = tuple[str, str]


def tickets(count: int, seed: int, *, held: bool) -> list[Ticket]:
    """(ticket, answer): the last wording of each thing and event is for held-out tickets alone."""
    draw = random.Random(seed)  # noqa: S311
    made = []
    for _ in range(count):
        component, priority = draw.choice(list(COMPONENTS)), draw.choice(list(EVENTS))
        thing = COMPONENTS[component][2] if held else draw.choice(COMPONENTS[component][:2])
        event = EVENTS[priority][2] if held else draw.choice(EVENTS[priority][:2])
        text = f"{draw.choice(OPENINGS)} {thing} {event}. {draw.choice(CLOSINGS)}"
        made.append((text, f"[{priority}] {component}: {ACTIONS[priority]}"))
    return made


def spoilt(rows: Sequence[Ticket], share: float, seed: int) -> list[Ticket]:
    """The tickets, a share of them with the answer to another."""
    draw = random.Random(seed)  # noqa: S311
    wrong = set(draw.sample(range(len(rows)), round(share * len(rows))))
    return [(text, draw.choice(rows)[1] if n in wrong else answer) for n, (text, answer) in enumerate(rows)]


def prompted(text: str, shots: Sequence[Ticket]) -> list[BaseMessage]:
    """The desk's rules, worked examples, and the ticket."""
    before = [turn for asked, said in shots for turn in (HumanMessage(asked), AIMessage(said))]
    return [SystemMessage(TOLD), *before, HumanMessage(text)]


def measured(said: Sequence[str], held: Sequence[Ticket]) -> dict[str, Any]:
    """The share in the format, and the mean share of right fields."""
    formats, fields = [], []
    for text, (_, wanted) in zip(said, held, strict=True):
        found, right = LINE.fullmatch(text.strip()), LINE.fullmatch(wanted)
        assert right is not None
        formats.append(float(found is not None))
        same = [a == b for a, b in zip(found.groups(), right.groups(), strict=True)] if found else [False]
        fields.append(sum(same) / 3)
    return {name: _plain(values) for name, values in (("in_format", formats), ("fields_right", fields))}


def _plain(values: Sequence[float]) -> list[float]:
    found = bootstrap(values)
    return [round(value, 4) for value in (found.value, found.low, found.high)]


def main() -> None:
    """Prompt, train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default=EMBEDDED_BASE)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    held = tickets(60, 99, held=True)

    def answers(chat: Any, chats: Sequence[list[BaseMessage]]) -> list[str]:
        if not isinstance(chat, LocalChat):
            parser.error(f"{given.base} is not run here")
        return [answer.text for answer in chat.model_copy(update={"max_tokens": 32}).answer_many(chats)]

    shots = tickets(3, 5, held=False)
    said = answers(load_chat(given.base), [prompted(text, shots) for text, _ in held])
    print(json.dumps({"system": "prompted", "rows": 0} | measured(said, held)), flush=True)
    for seed in given.seeds:
        learn, check = tickets(given.rows, seed, held=False), tickets(16, 1000 + seed, held=False)
        for share in (0.0, 0.1, 0.3):
            print(f"seed {seed}, {share:.0%} spoilt", file=sys.stderr, flush=True)
            out = given.out / f"{seed}-{round(100 * share)}"
            if not (out / "part.json").exists():
                rows, dev = (
                    [Example("instruct", text, (answer,)) for text, answer in side]
                    for side in (spoilt(learn, share, seed), check)
                )
                train_answerer(rows, dev, out, base=given.base, plan=HOW)
            said = answers(load_chat(str(out)), [[HumanMessage(text)] for text, _ in held])
            line = {"system": "fine-tuned", "rows": given.rows, "spoilt": share, "seed": seed}
            print(json.dumps(line | measured(said, held)), flush=True)


if __name__ == "__main__":
    main()
