"""One verb a file. Each exports a factory that takes live objects and returns a node for any LangGraph graph.

A node's docstring says which keys of the state it reads and writes.
"""

from artrag.nodes.answer import answer
from artrag.nodes.ask import ask
from artrag.nodes.build_index import build_index
from artrag.nodes.chunk import chunk
from artrag.nodes.contextualize import contextualize
from artrag.nodes.load import load
from artrag.nodes.recall import recall
from artrag.nodes.receive import receive
from artrag.nodes.refine import refine
from artrag.nodes.reply import reply
from artrag.nodes.rerank import rerank
from artrag.nodes.retrieve import retrieve
from artrag.nodes.review import review
from artrag.nodes.route import route
from artrag.nodes.sample import sample
from artrag.nodes.standalone import standalone
from artrag.nodes.trust import trust

__all__ = [
    "answer",
    "ask",
    "build_index",
    "chunk",
    "contextualize",
    "load",
    "recall",
    "receive",
    "refine",
    "reply",
    "rerank",
    "retrieve",
    "review",
    "route",
    "sample",
    "standalone",
    "trust",
]
