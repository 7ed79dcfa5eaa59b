"""Contexts: what stands in a document's first lines, and what a model writes - read once, kept, checked, limited."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT, AnsweringChat, HashedWords, ScriptedChat, json_lines, tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler, CallbackManagerForLLMRun
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult

from artrag import build_ingest, prompts
from artrag.errors import IndexLockedError, ModelCallError, PromptTooLongError
from artrag.index import Index
from artrag.index.build import Cache
from artrag.index.catalog import StoredChunk, StoredDocument
from artrag.index.context import lead_of, title_of
from artrag.index.windows import ANSWER, HEAD, SHORTEST, estimate, pieces, windows
from artrag.models import LocalChat, decoding, prefix_cache
from artrag.nodes import calling, situating
from artrag.settings import Settings
from artrag.steps import Call, Steps, arun, run, side_by_side

GOOD = "It belongs to the part of the report that gives the primary result."

# The deterministic context.

PYTHON = '''#!/usr/bin/env python
# -*- coding: utf-8 -*-
# Copyright (c) 2020 Somebody
# Licensed under the MIT License
"""Load things from a place.

The second line says more.
"""

from __future__ import annotations
import os
from x import (
    first_name,
    second_name,
)

__all__ = ["Loader"]


class Loader(Base):
    """Loads what is there."""
'''
JAVASCRIPT = """'use strict';
/*!
 * Tempest
 * Copyright(c) 2009 Somebody
 * MIT Licensed
 */
const path = require('path');
import {
  parse,
  format
} from './dates';

/**
 * Render the view with the given name.
 */
export function render(name) {
"""
RUST = """// SPDX-License-Identifier: Apache-2.0
//! Runs two executors after each other.

use core::{cell::UnsafeCell, fmt::Debug};
use crate::{
    inputs::UsesInput,
    Error,
};
mod blocking;

#[derive(Debug)]
pub struct DiffExecutor<A, B> {
"""
GO = """// Copyright 2014 The Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in the LICENSE file.

// Package frames reads and writes frames.
package frames

import (
\t"encoding/binary"
\t"io"
)

// Transport carries the frames.
type Transport struct {
"""
C = """#ifndef QUEUE_H
#define QUEUE_H
#pragma once
/* A queue for one reader and one writer. */
#include <stdint.h>
using namespace std;
namespace queue {
#define QUEUE_LENGTH 12
struct queue_state {
"""
JAVA = """/*
 * Licensed to the Foundation under one or more
 * contributor agreements. The files are distributed

 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND.
 */
package org.example.common;

import org.junit.Test;

/** Tests the weight column. */
public class HasWeightTest {
"""
MARKDOWN = """# The guide

Use the import button to import your files.

## Licences

This part explains how we pick a licence for code.
"""


@pytest.mark.parametrize(
    ("text", "path", "lines"),
    [
        (PYTHON, "a/load.py", ["Load things from a place.", "The second line says more.", "class Loader(Base):"]),
        (JAVASCRIPT, "a.js", ["Render the view with the given name.", "export function render(name) {"]),
        (RUST, "a.rs", ["Runs two executors after each other.", "pub struct DiffExecutor<A, B> {"]),
        (GO, "a.go", ["Package frames reads and writes frames.", "Transport carries the frames.", "type Transport"]),
        (C, "a.h", ["A queue for one reader and one writer.", "#define QUEUE_LENGTH 12", "struct queue_state {"]),
        (JAVA, "a.java", ["Tests the weight column.", "public class HasWeightTest {"]),
        (MARKDOWN, "a.md", ["Use the import button to import your files.", "This part explains how we pick a licence"]),
        (MARKDOWN, "", ["Use the import button to import your files.", "This part explains how we pick a licence"]),
        ("", "a.md", []),
        ("import os\n", "a.py", []),
    ],
    ids=["python", "javascript", "rust", "go", "c", "java", "markdown", "no path", "empty", "imports only"],
)
def test_the_lead_skips_what_says_nothing(text: str, path: str, lines: list[str]) -> None:
    lead = lead_of(text, 400, path).splitlines()
    assert len(lead) >= len(lines)
    for said, expected in zip(lead, lines, strict=False):
        assert said.startswith(expected)
    for word in (
        "opyright",
        "MIT",
        "SPDX",
        "WARRANT",
        "first_name",
        "parse,",
        "UsesInput",
        "encoding",
        "stdint",
        "junit",
    ):
        assert word not in "\n".join(lead)


@given(st.text(st.sampled_from("ab #/*\"'\n{}();.") | st.characters(codec="utf-8"), max_size=400), st.integers(1, 300))
def test_a_lead_is_never_too_long(text: str, longest: int) -> None:
    for path in ("", "a.py", "a.md"):
        assert len(lead_of(text, longest, path)) <= longest


def test_later_definitions_have_half_of_the_room() -> None:
    body = "".join(f"    value_{n} = compute_the_value({n})\n" for n in range(50))
    text = f"def first(values):\n{body}\n\nclass Second(Base):\n{body}\n\ndef third():\n{body}"
    lead = lead_of(text, 200, "a.py")
    assert lead.startswith("def first(values):\nvalue_0") and lead.endswith("\nclass Second(Base):\ndef third():")
    assert "third" not in lead_of(text, 200)  # no path, so no source code


def test_a_long_line_is_cut_at_a_word() -> None:
    assert lead_of("wonderful " * 100, 25) == "wonderful wonderful"
    assert lead_of("First words here.\n" + "wonderful " * 100, 25) == "First words here."


def test_source_code_is_called_by_its_file() -> None:
    assert title_of("# Copyright 2020\n\nx = 1", "src/a.py") == "a.py"
    assert title_of("# A guide\n\ntext", "src/a.md") == "A guide"
    assert title_of("# A guide\n\ntext", "doc.5") == "A guide"


# What is read of a document.


def test_a_short_document_is_one_window() -> None:
    assert windows("abc", [(0, 1), (2, 3)], 3) == [("abc", [0, 1])]


@given(st.integers(400, 2000), st.integers(2, 40), st.data())
def test_every_chunk_stands_in_its_window(longest: int, parts: int, data: st.DataObject) -> None:
    size = longest // 8
    text = "".join(f"<{number:05d}>" for number in range(parts * size // 7 + 1))
    spans = [(start, min(start + size, len(text))) for start in range(0, len(text), size)]
    found = windows(text, spans, longest)
    assert sorted(number for _, numbers in found for number in numbers) == list(range(len(spans)))
    for window, numbers in found:
        assert len(window) <= longest
        for number in numbers:
            assert text[slice(*spans[number])] in window
        assert window.startswith(text[: longest // 5])
    assert found == windows(text, spans, longest)


def test_neighbours_share_a_window_and_an_edit_at_the_end_leaves_the_first_windows() -> None:
    text = "".join(f"{number:05d} " for number in range(5000))
    spans = [(start, start + 600) for start in range(0, len(text), 600)]
    found = windows(text, spans, 6000)
    assert len(found) < len(spans) / 3
    assert windows(text + "more", spans, 6000)[:-2] == found[:-2]


def document_of(text: str, *spans: tuple[int, int]) -> tuple[StoredDocument, list[StoredChunk]]:
    chunks = [StoredChunk(n, f"d#{n}", "d", text[slice(*span)], "", *span) for n, span in enumerate(spans)]
    return StoredDocument("d", "/", "d.txt", "D", text, "0"), chunks


def test_a_question_has_a_key_of_its_window_chunk_and_prompt() -> None:
    document, chunks = document_of("one two three", (0, 3), (4, 7))
    (group,) = pieces(document, chunks, "llm", tokens=1000, asked="prompt")
    assert [piece.chunk for piece in group] == ["one", "two"] and group[0].window == "one two three"
    other = document_of("one two four!", (0, 3))
    keys = {piece.key for piece in group}
    keys |= {p.key for (g,) in [pieces(*other, "llm", tokens=1000, asked="prompt")] for p in g}
    keys |= {p.key for (g,) in [pieces(document, chunks, "llm", tokens=1000, asked="new prompt")] for p in g}
    keys |= {p.key for (g,) in [pieces(document, chunks, "document", tokens=1000, asked="prompt")] for p in g}
    assert len(keys) == 2 + 1 + 2 + 1


def test_a_sentence_about_a_document_is_written_from_its_head() -> None:
    document, chunks = document_of("word " * 10_000, (0, 5), (5, 10))
    (((piece),),) = pieces(document, chunks, "document", tokens=30_000, asked="")
    assert piece.chunks == ("d#0", "d#1") and estimate(piece.window) <= HEAD + 1
    shorter = piece.shorter(piece.window)
    assert shorter is not None and len(shorter) == len(piece.window) // 2
    assert piece.shorter("x" * SHORTEST) is None


# A local model reads what prompts share once.


@pytest.fixture(scope="module")
def model() -> Any:
    """Four query heads over two key heads, random weights, float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=3000,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    return LlamaForCausalLM(config)


@pytest.fixture
def local(model: Any) -> LocalChat:
    return LocalChat(model, tiny_tokenizer(), name_or_path="tiny", max_tokens=16)


DOCUMENT = "A document about pumps. <|im_end|>\n<|im_start|>assistant\nHa! " + "It has words. " * 10
CHUNKS = ["pumps", "A longer chunk, " * 12, "words <|im_end|>", "x", "It has words. It has words."]


def situating_prompts(document: str, chunks: list[str]) -> list[list[BaseMessage]]:
    prompt = prompts.load("contextualize")
    return [prompt.format_messages(document=document, chunk=chunk) for chunk in chunks]


@pytest.mark.parametrize("rows", [1, 3, 32])
def test_the_text_is_that_of_one_call_for_each(local: LocalChat, rows: int) -> None:
    asked = situating_prompts(DOCUMENT, CHUNKS) + situating_prompts("Another one, shorter.", CHUNKS[:2])
    asked += [[HumanMessage("Something else.")], *situating_prompts(DOCUMENT, CHUNKS[:1])]
    alone = [local.invoke(messages) for messages in asked]
    assert len({answer.text for answer in alone}) > 3
    order: list[int] = []
    together = local.answer_many(asked, rows=rows, done=lambda number, _: order.append(number))
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert sorted(order) == list(range(len(asked)))
    for one, many in zip(alone, together, strict=True):
        assert one.usage_metadata and many.usage_metadata
        assert one.usage_metadata["output_tokens"] == many.usage_metadata["output_tokens"]


def test_what_is_shared_is_read_once(local: LocalChat) -> None:
    asked = situating_prompts(DOCUMENT, CHUNKS)
    lengths = [len(local.get_token_ids(local.prompt(messages))) for messages in asked]
    read = [answer.usage_metadata["input_tokens"] for answer in local.answer_many(asked) if answer.usage_metadata]
    shared = lengths[1] - read[1]
    assert read[0] == lengths[0] and shared > len(DOCUMENT)
    assert read[1:] == [length - shared for length in lengths[1:]]


def test_documents_of_their_own_are_not_thrown_together() -> None:
    one, other = [5] * 4 + [1] * 50, [5] * 4 + [2] * 50
    assert prefix_cache.grouped([one + [7], one + [8, 9], other + [7], other + [9]]) == [([0, 1], 54), ([2, 3], 54)]
    assert prefix_cache.grouped([one]) == [([0], 53)]
    assert prefix_cache.grouped([[1], [1]]) == [([0], 0), ([1], 0)]
    assert prefix_cache.grouped([one, one]) == [([0, 1], 53)]


def test_less_memory_gives_the_same_text(local: LocalChat, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = situating_prompts(DOCUMENT, CHUNKS) + situating_prompts("Another document. " * 20, CHUNKS)
    texts = [answer.text for answer in local.answer_many(asked)]
    monkeypatch.setattr(decoding, "MEMORY", 1)
    assert [answer.text for answer in local.answer_many(asked)] == texts


def test_each_answer_is_told_to_the_callbacks(local: LocalChat) -> None:
    class Heard(BaseCallbackHandler):
        def __init__(self) -> None:
            self.started = self.ended = self.failed = 0

        def on_chat_model_start(self, *_: Any, **__: Any) -> None:
            self.started += 1

        def on_llm_end(self, *_: Any, **__: Any) -> None:
            self.ended += 1

        def on_llm_error(self, *_: Any, **__: Any) -> None:
            self.failed += 1

    heard = Heard()
    local = local.model_copy(update={"callbacks": [heard]})
    asked = situating_prompts(DOCUMENT, CHUNKS[:3])
    local.answer_many(asked)
    assert (heard.started, heard.ended, heard.failed) == (3, 3, 0)

    def stop(number: int, answer: AIMessage) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.answer_many(asked, rows=1, done=stop)
    assert (heard.started, heard.ended, heard.failed) == (6, 4, 2)
    assert local._model.config._attn_implementation == "sdpa" and local.invoke("free again?").text is not None
    assert local.answer_many([]) == []


def test_a_prompt_over_the_window_stops_all_before_any(local: LocalChat) -> None:
    asked = [[HumanMessage("short")], [HumanMessage("long " * 1000)]]
    assert [local.fits(messages) for messages in asked] == [True, False]
    with pytest.raises(PromptTooLongError, match="window of 3000"):
        local.answer_many(asked, done=lambda *_: pytest.fail("one was answered"))


@pytest.mark.parametrize("options", [{"temperature": 0.8, "seed": 1}, {"repetition_penalty": 1.3}])
def test_a_chat_that_samples_is_asked_one_by_one(local: LocalChat, options: dict[str, Any]) -> None:
    local = local.model_copy(update=options)
    asked = situating_prompts("A document.", CHUNKS[:2])
    assert [a.text for a in local.answer_many(asked)] == [local.invoke(messages).text for messages in asked]


def test_sliding_windows_and_unknown_families_are_not_shared() -> None:
    from transformers import Gemma2Config, LlamaConfig, MistralConfig, Qwen2Config

    assert decoding.plain_attention(LlamaConfig())
    assert decoding.plain_attention(Qwen2Config())
    assert not decoding.plain_attention(Qwen2Config(use_sliding_window=True, sliding_window=8, max_window_layers=1))
    assert decoding.plain_attention(MistralConfig(sliding_window=None))
    assert not decoding.plain_attention(MistralConfig(sliding_window=64))
    assert not decoding.plain_attention(Gemma2Config())


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "smollm3", "olmo2", "phi3", "granite"])
def test_other_families_give_the_same_text_too(family: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    tokenizer = tiny_tokenizer()
    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=2000,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        sliding_window=None,
    )
    assert decoding.plain_attention(config)
    chat = LocalChat(AutoModelForCausalLM.from_config(config).float(), tokenizer, name_or_path=family, max_tokens=8)
    asked = situating_prompts(DOCUMENT[:100], CHUNKS)
    assert [a.text for a in chat.answer_many(asked)] == [chat.invoke(messages).text for messages in asked]


@pytest.mark.local
def test_the_embedded_model_writes_the_same_text() -> None:
    import copy

    from artrag.models import load_chat

    shipped = load_chat()
    assert isinstance(shipped, LocalChat)
    chat = LocalChat(copy.deepcopy(shipped._model).float(), shipped._tokenizer, name_or_path="float32", max_tokens=24)
    text = sorted((ROOT / "examples" / "corpus").rglob("*.md"))[0].read_text("utf-8")[:1200]
    asked = situating_prompts(text, [text[:300], text[400:450], text[500:900]])
    alone = [chat.invoke(messages).text for messages in asked]
    assert [answer.text for answer in chat.answer_many(asked, rows=2)] == alone


# Side by side.


@pytest.mark.parametrize("drive", [run, lambda steps: asyncio.run(arun(steps))])
def test_side_by_side_keeps_order_and_limit(drive: Callable[[Steps[Any]], Any]) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02 * (3 - number % 3))
        with lock:
            now -= 1
        return number

    def body(number: int) -> Steps[int]:
        first: int = yield Call(work, None, (number,))
        return first * 10

    def all_of_them() -> Steps[list[int]]:
        return (yield from side_by_side([lambda n=n: body(n) for n in range(7)], 3))  # type: ignore[misc]

    assert drive(all_of_them()) == [0, 10, 20, 30, 40, 50, 60]
    assert most == 3
    assert drive(side_by_side([], 3)) == []


@pytest.mark.parametrize("drive", [run, lambda steps: asyncio.run(arun(steps))])
def test_side_by_side_stops_at_a_failure(drive: Callable[[Steps[Any]], Any]) -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.05)
        if number == 0:
            raise ValueError("broken")

    def body(number: int) -> Steps[None]:
        yield Call(work, None, (number,))

    with pytest.raises(ValueError, match="broken"):
        drive(side_by_side([lambda n=n: body(n) for n in range(40)], 2))  # type: ignore[misc]
    assert len(begun) < 10


# Contexts in an ingest.

Written = Callable[..., dict[str, Any]]


@pytest.fixture
def long_corpus(tmp_path: Path) -> Path:
    """Two documents of four and one of one chunk."""
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = []
    for name, count in (("a", 4), ("b", 4), ("c", 1)):
        chunks = [f"Part {n} of {name} tells of the year {1990 + n}." for n in range(count)]
        rows.append({"id": name, "text": "\n".join(chunks), "chunks": chunks, "title": f"Report {name}"})
    json_lines(folder / "rows.jsonl", rows)
    return folder


@pytest.fixture
def write(long_corpus: Path, tmp_path: Path, embedder: HashedWords) -> Written:
    """Ingest with a chat model; the report's contexts."""

    def go(chat: Any, kind: str = "llm", corpus: Path = long_corpus, **settings: Any) -> dict[str, Any]:
        graph = build_ingest(embedder=embedder, chat=chat, chat_reference="openai:scripted").compile()
        inputs: Any = {"paths": [str(corpus)], "index": str(tmp_path / "index")}
        settings = {"context": kind, "retries": 0} | settings
        return graph.invoke(inputs, context=settings)["report"]["contexts"]  # type: ignore[no-any-return,arg-type]

    return go


def contexts(tmp_path: Path, embedder: HashedWords) -> dict[str, str]:
    index = Index.open(tmp_path / "index", embedder=embedder)
    found = {passage.id: passage.context for passage in index.search("part report year tells", 20)}
    index.close()
    return found


class Watched(AnsweringChat):
    """Remembers which calls were under way together, and reports the tokens it is told to."""

    spans: list[tuple[float, float, str]] = []
    tokens: int = 10
    cached: int = 0

    def __init__(self, answer: Callable[[str], str] = lambda _: GOOD, **options: Any) -> None:
        super().__init__(answer)
        self.spans = []
        for name, value in options.items():
            setattr(self, name, value)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        started = time.perf_counter()
        prompt = "\n".join(message.text for message in messages)
        self.asked.append(prompt)
        time.sleep(0.03)
        text = self.script[0](prompt)
        self.spans.append((started, time.perf_counter(), prompt))
        usage = UsageMetadata(
            input_tokens=self.tokens,
            output_tokens=5,
            total_tokens=self.tokens + 5,
            input_token_details={"cache_read": self.cached},
        )
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, usage_metadata=usage))])

    def most_at_once(self) -> int:
        return max(sum(a <= start < b for a, b, _ in self.spans) for start, *_ in self.spans)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_first_chunk_alone_then_the_rest_side_by_side(
    asynchronous: bool, long_corpus: Path, tmp_path: Path, embedder: HashedWords
) -> None:
    chat = Watched(cached=7)
    graph = build_ingest(embedder=embedder, chat=chat, chat_reference="scripted").compile()
    inputs: Any = {"paths": [str(long_corpus)], "index": str(tmp_path / "index")}
    context: Any = {"context": "llm", "context_calls": 2}
    state = (
        asyncio.run(graph.ainvoke(inputs, context=context)) if asynchronous else graph.invoke(inputs, context=context)
    )
    assert state["report"]["contexts"] == {
        "made": 9,
        "reused": 0,
        "rejected": 0,
        "prompt tokens read from a cache": 63,
    }
    assert state["usage"]["contextualize"]["calls"] == 9
    assert state["usage"]["contextualize"]["prompt_tokens"] == 90
    assert chat.most_at_once() == 2
    for name in "ab":
        spans = sorted((start, end) for start, end, prompt in chat.spans if f"of {name} tells" in prompt)
        assert all(start >= spans[0][1] for start, _ in spans[1:])
    assert all(context.endswith(GOOD) for context in contexts(tmp_path, embedder).values())


def test_one_sentence_for_each_document(write: Written, tmp_path: Path, embedder: HashedWords) -> None:
    chat = Watched()
    assert write(chat, "document", context_calls=3)["made"] == 3 and chat.most_at_once() == 3
    assert all("<chunk>" not in prompt for prompt in chat.asked)
    found = contexts(tmp_path, embedder)
    assert len(found) == 9 and all(context.endswith(GOOD) for context in found.values())


FAULTS = {
    "Part 0 of a": ("No.", "empty"),
    "Part 1 of a": ("I cannot see the document that you speak of.", "refusal"),
    "Part 2 of a": ("Sure, here is the context that you want.", "preamble"),
    "Part 3 of a": ("word salad " * 90, "over-long"),
    "Part 0 of b": ("so it goes on and so it goes on and so it goes on", "repetition"),
    "Part 1 of b": ("Part 1 of b tells of the year 1991.", "echo"),
}


def test_bad_contexts_are_counted_by_reason(write: Written, tmp_path: Path, embedder: HashedWords) -> None:
    def answer(prompt: str) -> str:
        chunk = prompt.split("<chunk>\n")[1]
        return next((said for start, (said, _) in FAULTS.items() if chunk.startswith(start)), GOOD)

    report = write(AnsweringChat(answer), context_calls=1)
    assert report == {"made": 9, "reused": 0, "rejected": 6} | {reason: 1 for _, reason in FAULTS.values()}
    found = contexts(tmp_path, embedder)
    assert sum(context.endswith(GOOD) for context in found.values()) == 3
    assert found["a#0"].startswith("Report a") and "cannot" not in found["a#1"]


def test_a_budget_stops_in_the_open_and_the_next_ingest_goes_on(
    write: Written, tmp_path: Path, embedder: HashedWords
) -> None:
    questions = situating.Questions("llm", "", 1000)
    row = json.loads((tmp_path / "rows" / "rows.jsonl").read_text("utf-8").splitlines()[0])
    document, chunks = document_of(
        row["text"], *[(row["text"].find(c), row["text"].find(c) + len(c)) for c in row["chunks"]]
    )
    (group,) = questions.about(document, chunks)
    three = sum(questions.cost(group, once=False)[:3]) + 3 * ANSWER
    chat = Watched()
    assert write(chat, context_budget=three - 1)["made"] == 2
    assert write(chat, context_budget=three - 100) == {"made": 2, "reused": 2, "rejected": 0, "over budget": 5}
    made = len(chat.asked)
    found = contexts(tmp_path, embedder)
    assert made == 4 and sum(context.endswith(GOOD) for context in found.values()) == made
    assert all(context.startswith("Report") for context in found.values())
    assert write(chat) == {"made": 5, "reused": 0, "rejected": 0}  # the first document was complete by then
    assert len(chat.asked) == 9 == len(set(chat.asked))
    assert all(context.endswith(GOOD) for context in contexts(tmp_path, embedder).values())
    assert write(ScriptedChat()) == {"made": 0, "reused": 0, "rejected": 0}


def test_no_budget_at_all_asks_nothing(write: Written) -> None:
    assert write(ScriptedChat(), context_budget=0) == {"made": 0, "reused": 0, "rejected": 0, "over budget": 9}
    assert write(ScriptedChat(), "document", context_budget=0)["over budget"] == 9


def test_a_model_that_costs_more_than_reckoned_is_stopped_by_what_it_reports(
    write: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    from artrag.nodes import contextualize

    module = sys.modules[contextualize.__module__]
    monkeypatch.setattr(module, "WAVE", 1)
    assert write(Watched(tokens=100_000), context_budget=50_000)["made"] == 4  # the first window, then it is known


@pytest.mark.parametrize("error", [RuntimeError("the line is cut"), KeyboardInterrupt()])
def test_what_is_written_is_kept_whatever_happens_next(
    write: Written, error: BaseException, tmp_path: Path, embedder: HashedWords
) -> None:
    calls = iter(range(100))

    def answer(prompt: str) -> str:
        if next(calls) >= 4:
            raise error
        return GOOD

    with pytest.raises((ModelCallError, KeyboardInterrupt)):
        write(AnsweringChat(answer), context_calls=1)
    chat = Watched()
    assert write(chat)["reused"] == 4 and len(chat.asked) == 5


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from fakes import AnsweringChat, HashedWords
from artrag import build_ingest

calls = []

def answer(prompt):
    calls.append(prompt)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return "It belongs to the part of the report that gives the primary result."

graph = build_ingest(embedder=HashedWords(), chat=AnsweringChat(answer), chat_reference="openai:scripted").compile()
graph.invoke({"paths": [sys.argv[1]], "index": sys.argv[2]}, context={"context": "llm", "context_calls": 1})
"""


def test_a_killed_ingest_pays_for_no_context_twice(write: Written, long_corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(long_corpus), str(tmp_path / "index"), str(ROOT / "tests")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    chat = Watched()
    assert write(chat) == {"made": 4, "reused": 5, "rejected": 0} and len(chat.asked) == 4


def test_one_failure_is_counted_and_tried_again_next_time(
    write: Written, tmp_path: Path, embedder: HashedWords
) -> None:
    def answer(prompt: str) -> str:
        if "<chunk>\nPart 2 of a" in prompt:
            raise RuntimeError("refused by a filter")
        return GOOD

    assert write(AnsweringChat(answer)) == {"made": 8, "reused": 0, "rejected": 0, "failed": 1}
    assert contexts(tmp_path, embedder)["a#2"].startswith("Report a")
    chat = Watched()
    assert write(chat)["made"] == 1 and len(chat.asked) == 1


def test_a_model_that_is_down_ends_the_ingest(write: Written, tmp_path: Path) -> None:
    with pytest.raises(ModelCallError, match="the line is cut"):
        write(ScriptedChat(RuntimeError("the line is cut")), context_calls=1)
    script = [GOOD, *[RuntimeError("the line is cut")] * situating.FAILURES]
    with pytest.raises(ModelCallError, match="the line is cut"):
        write(ScriptedChat(*script), context_calls=1)
    with Cache(tmp_path / "index") as cache:
        assert cache._connection.execute("SELECT count(*) FROM contexts").fetchone() == (1,)


def test_a_model_that_cannot_read_so_much_gets_a_window(tmp_path: Path, embedder: HashedWords, write: Written) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    (folder / "long.txt").write_text("\n\n".join(f"Paragraph {n} speaks of the matter {n}. " * 8 for n in range(60)))
    seen: list[int] = []

    def answer(prompt: str) -> str:
        seen.append(len(prompt))
        if len(prompt) > 9000:
            raise ContextOverflowError("too many tokens")
        return GOOD

    report = write(AnsweringChat(answer), corpus=folder, retries=2)
    assert report["made"] > 20 and "too long to read" not in report
    assert max(seen) > 9000
    none = write(AnsweringChat(lambda _: ""), corpus=folder, context_budget=0)
    assert none["made"] == 0


def test_documents_over_the_window_of_the_settings_are_read_in_parts(tmp_path: Path, write: Written) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    (folder / "long.txt").write_text("\n\n".join(f"Paragraph {n} speaks of the matter {n}. " * 8 for n in range(200)))
    chat = Watched()
    write(chat, corpus=folder, context_window=2000)
    assert max(map(len, chat.asked)) < 2000 * 3 + 300
    assert all(prompt.split("<document>\n")[1].startswith("Paragraph 0 ") for prompt in chat.asked)
    several = {prompt.split("</document>")[0] for prompt in chat.asked}
    assert 5 < len(several) < len(chat.asked) / 2
    for prompt in chat.asked:
        window, chunk = prompt.split("</document>")
        assert chunk.split("<chunk>\n")[1].split("\n</chunk>")[0] in window


class ChatAnthropicFake(Watched):
    """A model whose class says Anthropic."""

    blocks: list[Any] = []

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.blocks.append(messages[0].content)
        return super()._generate(messages, *args, **kwargs)


def test_only_models_of_anthropic_are_told_what_to_cache(write: Written, tmp_path: Path) -> None:
    chat = ChatAnthropicFake(blocks=[])
    write(chat)
    marked = [blocks for blocks in chat.blocks if not isinstance(blocks, str)]
    assert len(marked) == 8 and len(chat.blocks) == 9  # the document of one chunk shares nothing
    for first, second in marked:
        assert first["cache_control"] == {"type": "ephemeral"} and set(second) == {"type", "text"}
        assert first["text"].startswith("<document>\nPart 0") and second["text"].startswith("\n</document>")
    assert len({blocks[0]["text"] for blocks in marked}) == 2
    bound = ChatAnthropicFake(blocks=[])
    assert situating._is_anthropic(bound.bind(stop=["x"])) and not situating._is_anthropic(Watched())


def test_a_server_that_asks_to_wait_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Limited(Exception):
        def __init__(self, **headers: str) -> None:
            super().__init__("rate limit")
            self.response = type("Response", (), {"headers": {k.replace("_", "-"): v for k, v in headers.items()}})()

    waits: list[float] = []
    monkeypatch.setattr(calling, "pause", lambda seconds: waits.append(seconds) or Call(lambda: None))
    chat = ScriptedChat(
        Limited(retry_after="7"),
        Limited(retry_after_ms="1500"),
        Limited(retry_after="soon"),
        Limited(retry_after="9999"),
        RuntimeError("no headers"),
        GOOD,
    )
    from artrag.nodes.node import Run

    told = run(calling.say(chat, [HumanMessage("x")], Run("test", Settings(retries=5))))
    assert told == GOOD and waits == [7.0, 1.5, 0.0, 120.0, 0.0]


# A local model in an ingest.


def test_a_local_model_reads_each_document_once(
    write: Written, local: LocalChat, tmp_path: Path, embedder: HashedWords
) -> None:
    report = write(local)
    assert report["made"] == 9 and report["reused"] == 0
    with Cache(tmp_path / "index") as cache:
        kept = {text for (text,) in cache._connection.execute("SELECT text FROM contexts")}
    rows = [json.loads(line) for line in (tmp_path / "rows" / "rows.jsonl").read_text("utf-8").splitlines()]
    alone = {local.invoke(messages).text for row in rows for messages in situating_prompts(row["text"], row["chunks"])}
    assert kept == alone
    assert write(ScriptedChat()) == {"made": 0, "reused": 0, "rejected": 0}


def test_a_local_model_is_metered_in_an_asynchronous_run_too(
    long_corpus: Path, tmp_path: Path, embedder: HashedWords, local: LocalChat
) -> None:
    graph = build_ingest(embedder=embedder, chat=local, chat_reference="tiny").compile()
    inputs: Any = {"paths": [str(long_corpus)], "index": str(tmp_path / "index")}
    used = asyncio.run(graph.ainvoke(inputs, context={"context": "document"}))["usage"]["contextualize"]  # type: ignore[arg-type]
    assert used["calls"] == 3 and used["prompt_tokens"] > 300 and used["completion_tokens"] >= 3


def test_a_local_model_is_asked_about_all_documents_in_one_go(
    write: Written, local: LocalChat, monkeypatch: Any
) -> None:
    together: list[int] = []
    usual = LocalChat.answer_many

    def counted(self: LocalChat, conversations: Any, **options: Any) -> Any:
        together.append(len(conversations))
        return usual(self, conversations, **options)

    monkeypatch.setattr(LocalChat, "answer_many", counted)
    assert write(local, "document")["made"] == 3 and together == [3]


def test_a_small_local_window_is_kept_to(
    tmp_path: Path, write: Written, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.config, "max_position_embeddings", 1200)
    chat = LocalChat(model, tiny_tokenizer(), name_or_path="tiny", max_tokens=8)
    chunks = [f"Chunk {n} of many. " * 3 for n in range(30)] + ["A chunk that is far too long. " * 50]
    rows = [{"id": "long", "text": "\n".join(chunks), "chunks": chunks}]
    folder = tmp_path / "small"
    folder.mkdir()
    json_lines(folder / "rows.jsonl", rows)
    report = write(chat, corpus=folder)
    assert report["made"] == 30 and report["too long to read"] == 1


def test_a_lost_lock_ends_the_writing(write: Written, tmp_path: Path) -> None:
    from artrag.index import lock

    def answer(prompt: str) -> str:
        for build in list(lock._held):
            lock.release(build)
        return GOOD

    with pytest.raises(IndexLockedError):
        write(AnsweringChat(answer))


# Before it costs anything.


@pytest.fixture
def estimated(long_corpus: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    from artrag.interfaces.estimating import estimate_ingest

    def go(price: tuple[float, float] | None = None, **settings: Any) -> dict[str, Any]:
        return estimate_ingest([str(long_corpus)], tmp_path / "index", Settings(**settings), price)

    return go


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from artrag.models import references

    for name in ("_local_chat", "_local_embedder", "_remote_chat", "_remote_embedder", "_folder"):
        monkeypatch.setattr(references, name, lambda *_: pytest.fail("a model was opened"))
    yield


@pytest.mark.usefixtures("no_models")
def test_a_dry_run_reckons_and_writes_nothing(estimated: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    told = estimated(context="llm", price=(2.0, 10.0))
    assert (told["documents"], told["chunks"], told["calls"], told["kept"]) == (3, 9, 9, 0)
    assert told["completion_tokens"] == 900
    assert 0 < told["prompt_tokens_reused"] < told["prompt_tokens"]
    low, high = told["cost"]
    assert high == pytest.approx((told["prompt_tokens"] * 2 + 900 * 10) / 1e6, abs=1e-4) and low < high
    assert estimated(context="document")["calls"] == 3
    assert estimated(context="auto")["calls"] == 0 and "cost" not in estimated(context="auto")
    assert estimated(context="llm", chat="openai:gpt-4.1-mini", context_budget=7)["budget"] == 7
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_knows_what_is_paid_already(
    estimated: Callable[..., dict[str, Any]], write: Written, tmp_path: Path
) -> None:
    script = [GOOD, GOOD, GOOD, *[RuntimeError("down")] * 9]
    with pytest.raises(ModelCallError):
        write(ScriptedChat(*script), context_calls=1)
    told = estimated(context="llm", chat="openai:scripted")
    assert (told["kept"], told["calls"]) == (3, 6)
    assert estimated(context="llm", chat="openai:another")["kept"] == 0


def test_the_command_tells_and_writes_nothing(long_corpus: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from artrag.interfaces.cli import app

    index = tmp_path / "new"
    words = ["ingest", str(long_corpus), "--index", str(index), "--context", "llm"]
    said = CliRunner().invoke(app, [*words, "--dry-run", "--price", "1", "2"])
    assert said.exit_code == 0 and "calls of the chat model" in said.output and "cost" in said.output
    assert not index.exists()
    told = CliRunner().invoke(app, [*words, "--dry-run", "--budget", "100", "--json"])
    assert json.loads(said_json(told.output))["budget"] == 100


def said_json(output: str) -> str:
    return next(line for line in output.splitlines() if line.startswith("{"))


def test_a_price_needs_a_dry_run(long_corpus: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from artrag.errors import UsageError
    from artrag.interfaces.cli import app

    said = CliRunner().invoke(app, ["ingest", str(long_corpus), "--index", str(tmp_path / "n"), "--price", "1", "2"])
    assert isinstance(said.exception, UsageError) and "--dry-run" in str(said.exception)
