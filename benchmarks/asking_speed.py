"""How many questions a minute a local model asks, in batches against one at a time.

    python benchmarks/asking_speed.py --index .artrag/index --passages 16

Both ask for the same candidate answers of the same passages, found by rule. One JSON line: pairs a minute of each,
their ratio, and how many questions are the same words both ways (in bfloat16 rounding may choose another word).
"""

import argparse
import json
import time
from contextlib import closing
from pathlib import Path

from artrag.index.store import Index
from artrag.models import LocalChat, load_chat
from artrag.settings import EMBEDDED_CHAT
from artrag.training.proposing import candidates, posing, sample


def main() -> None:
    """Ask both ways, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--chat", default=EMBEDDED_CHAT)
    parser.add_argument("--passages", type=int, default=16)
    given = parser.parse_args()
    chat = load_chat(given.chat)
    if not isinstance(chat, LocalChat):
        parser.error(f"{given.chat} is not run here")
    with closing(Index.open(given.index)) as index:
        chunks = sample(list(index.chunks()), given.passages)
    asked = [posing(one) for chunk in chunks for one in candidates(chunk, "", kinds={"short": 1.0})]
    chat.invoke(asked[0])  # the first call is the slowest
    started = time.perf_counter()
    together = [answer.text for answer in chat.answer_many(asked)]
    middle = time.perf_counter()
    alone = [chat.invoke(prompt).text for prompt in asked]
    ended = time.perf_counter()
    batched, single = (60 * len(asked) / took for took in (middle - started, ended - middle))
    print(
        json.dumps(
            {
                "pairs": len(asked),
                "pairs_a_minute": {"batched": round(batched, 1), "one_at_a_time": round(single, 1)},
                "ratio": round(batched / single, 2),
                "same_words": sum(one == other for one, other in zip(together, alone, strict=True)),
            }
        )
    )


if __name__ == "__main__":
    main()
