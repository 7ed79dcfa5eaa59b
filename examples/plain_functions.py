"""artrag without LangGraph: index a folder, search it, ask it.

    python examples/plain_functions.py "What does alarm PMP-417 mean?"

Runs on the embedded model; ARTRAG_CHAT=ollama:qwen3 (or any other reference) names a stronger one.
"""

import sys
from pathlib import Path

import artrag

CORPUS = Path(__file__).parent / "corpus"
INDEX = ".artrag/examples"


def main(question: str) -> None:
    """Ingest, search, ask."""
    report = artrag.ingest(CORPUS, index=INDEX)  # what is unchanged costs a hash
    print(f"{report['documents']} documents in {INDEX}")

    for passage in artrag.search(question, index=INDEX, k=3):
        print(f"{passage.score:.2f}  {passage.id}  {passage.text[:60]!r}")

    answer = artrag.ask(question, index=INDEX)
    print(f"\n{answer.answer}\nconfidence {answer.confidence:.2f}: {answer.decision}")
    for source in answer.sources:
        print(f"[{source['n']}] {source['document']}, characters {source['start']} to {source['end']}")
    if answer.abstained:
        print("Not sure enough: show the passages instead.")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "What does alarm PMP-417 mean?")
