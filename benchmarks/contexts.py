"""Contexts by a local model: how much is saved by reading a document once, and is the text the same?

    python benchmarks/contexts.py --data ../shared/data/contextual/documents.jsonl

The data are JSON Lines `{id, text, chunks}`. Each document is cut to `--prefix` tokens, and each of its chunks is
situated by the prompt of `prompts/contextualize.md` in three ways: one call a chunk, one call a chunk in batches
(padded on the left), and all chunks of a document after reading it once; then one sentence a document, written from
its head as an ingest does it. Ratios are against the unbatched calls. In float32 the texts should be equal; in bfloat16
sums are rounded in another order. `--limit` draws so many documents by chance, always the same ones.

Prints one JSON object: tokens read, wall and processor seconds of each way, ratios, and how many texts are equal.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage

from artrag import prompts
from artrag.index.windows import HEAD
from artrag.models import load_chat
from artrag.models.local_chat import LocalChat
from artrag.models.writing import criteria, loop
from artrag.settings import EMBEDDED_CHAT

Conversation = list[BaseMessage]


def cut(chat: LocalChat, text: str, tokens: int) -> str:
    """The text's first tokens."""
    offsets = chat._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]


def unbatched(chat: LocalChat, asked: Sequence[Conversation]) -> list[tuple[str, int]]:
    """(text, tokens read) by one call for each."""
    said = []
    for number, messages in enumerate(asked, start=1):
        answer = chat.invoke(messages)
        said.append((answer.text, answer.usage_metadata["input_tokens"] if answer.usage_metadata else 0))
        print(f"one call a chunk: {number}/{len(asked)}", file=sys.stderr)
    return said


def batched(chat: LocalChat, asked: Sequence[Conversation], size: int) -> list[tuple[str, int]]:
    """(text, tokens read) by whole prompts in batches, padded on the left."""
    import torch

    said: list[tuple[str, int]] = []
    pad = chat._tokenizer.pad_token_id
    for start in range(0, len(asked), size):
        rows = [chat.get_token_ids(chat.prompt(messages)) for messages in asked[start : start + size]]
        longest = max(map(len, rows))
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            made = chat._model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=chat.max_tokens,
                pad_token_id=pad,
                stopping_criteria=criteria(lambda row, read=longest: loop(row[read:].tolist()) > 0),
            )
        answers = [chat._ended(row.tolist())[0].strip() for row in made[:, longest:]]
        said += [(text, len(row)) for text, row in zip(answers, rows, strict=True)]
        print(f"batches: {len(said)}/{len(asked)}", file=sys.stderr)
    return said


def once(chat: LocalChat, asked: Sequence[Conversation], rows: int) -> list[tuple[str, int]]:
    """(text, tokens read) where what neighbours share is read once."""

    def tell(number: int, _answer: Any) -> None:
        print(f"read once: {number + 1} of {len(asked)} is done", file=sys.stderr)

    said = chat.answer_many(asked, rows=rows, done=tell)
    return [(answer.text, answer.usage_metadata["input_tokens"] if answer.usage_metadata else 0) for answer in said]


def timed(way: Callable[[], list[tuple[str, int]]]) -> dict[str, Any]:
    """Texts, tokens read, and seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    said = way()
    cost = {
        "prompt_tokens": sum(read for _, read in said),
        "seconds": round(time.perf_counter() - wall, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
    }
    print(cost, file=sys.stderr)
    return {"texts": [text for text, _ in said], **cost}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="documents.jsonl")
    parser.add_argument("--limit", type=int, help="only so many documents")
    parser.add_argument("--chat", default=EMBEDDED_CHAT)
    parser.add_argument("--prefix", type=int, default=1200, help="tokens of a document")
    parser.add_argument("--rows", type=int, default=32, help="answers decoded at once")
    parser.add_argument("--batch", type=int, default=8, help="prompts in a batch of the batched baseline")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--skip-batched", action="store_true", help="leave the batched baseline out")
    options = parser.parse_args()
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    chat = load_chat(options.chat)
    if not isinstance(chat, LocalChat):
        parser.error(f"{options.chat!r} is no local model")
    chat._model.to(getattr(torch, options.dtype))
    rows = [json.loads(line) for line in options.data.read_text("utf-8").splitlines()]
    rows = random.Random(0).sample(rows, min(options.limit or len(rows), len(rows)))  # noqa: S311
    documents = [cut(chat, row["text"], options.prefix) for row in rows]
    situate, describe = prompts.load("contextualize"), prompts.load("contextualize_document")
    asked = [
        situate.format_messages(document=document, chunk=chunk)
        for row, document in zip(rows, documents, strict=True)
        for chunk in row["chunks"]
    ]
    chat.invoke(asked[0])  # what is only done once is in no figure
    ways: dict[str, Callable[[], list[tuple[str, int]]]] = {
        "once": lambda: once(chat, asked, options.rows),
        "document": lambda: once(
            chat, [describe.format_messages(document=cut(chat, d, HEAD)) for d in documents], options.rows
        ),
        "unbatched": lambda: unbatched(chat, asked),
        "batched": lambda: batched(chat, asked, options.batch),
    }
    if options.skip_batched:
        del ways["batched"]
    found = {name: timed(way) for name, way in ways.items()}
    texts = {name: way.pop("texts") for name, way in found.items()}
    base = found["unbatched"]
    print(
        json.dumps(
            {
                "documents": len(rows),
                "chunks": len(asked),
                "prefix": options.prefix,
                "dtype": options.dtype,
                "threads": torch.get_num_threads(),
                "rows": options.rows,
                "batch": options.batch,
                **found,
                "fewer": {
                    name: {kind: round(base[kind] / max(way[kind], 1e-9), 2) for kind in way}
                    for name, way in found.items()
                    if name != "unbatched"
                },
                "equal_texts": {
                    name: sum(a == b for a, b in zip(texts[name], texts["unbatched"], strict=True))
                    for name in ("once", "batched")
                    if name in texts
                },
            }
        )
    )


if __name__ == "__main__":
    main()
