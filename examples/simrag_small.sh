#!/bin/sh
# SimRAG at its smallest: the example corpus in, a report out, in minutes on a CPU. Nothing is shipped unless it is better.
set -eu
cd "$(dirname "$0")/.."
artrag simrag examples/corpus --run .artrag/simrag --passages 16 --rounds 1 --questions examples/questions.jsonl "$@"
