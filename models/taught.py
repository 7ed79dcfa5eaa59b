"""The prompts that answerers are taught: a trained one is asked without their worked examples, which training replaced.

So a fifth of the tokens need not be read (docs/experiments.md).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from langchain_core.messages import BaseMessage

from artrag import prompts

TAUGHT = ("answer", "candidates", "pose")


def without_examples(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    """A chat that is one of these prompts as shipped, without its examples; any other chat as it is."""
    known = _examples().get(messages[0].text) if messages and messages[0].type == "system" else None
    return [one for one in messages if (one.type, one.text) not in known] if known else messages


@cache
def _examples() -> Mapping[str, frozenset[tuple[str, str]]]:
    """The examples of each prompt, by its system message."""
    made = {}
    for name in TAUGHT:
        prompt = prompts.load(name, Path(prompts.__file__).parent)
        system, *examples, _question = prompt.format_messages(**dict.fromkeys(prompt.input_variables, ""))
        made[str(system.text)] = frozenset((one.type, str(one.text)) for one in examples)
    return made
