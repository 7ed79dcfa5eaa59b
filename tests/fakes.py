"""Honest fakes: they say what they are told to, and remember what they were asked."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever

from artrag.protocols import Doubt, Subquestion

ROOT = Path(__file__).parents[1]


@contextmanager
def tiny_matrices(*modules: Any) -> Iterator[pytest.MonkeyPatch]:
    """For trainings of tiny models: they are fastest on one core and in float32, whatever this machine has.

    `modules` are those, beside the loop's, that ask `place` where to compute.
    """
    import torch

    from artrag.training import lora, lora_batches

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for module in (lora, lora_batches, *modules):
            patch.setattr(module, "place", lambda: ("cpu", torch.float32))
        yield patch
    torch.set_num_threads(before)


class ScriptedChat(BaseChatModel):
    """Says what it is told to, in order; an exception in the script is raised. It remembers what it was asked."""

    script: list[Any]
    asked: list[str] = []

    def __init__(self, *script: Any) -> None:
        super().__init__(script=list(script), asked=[])

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        asked = "\n".join(message.text for message in messages)
        self.asked.append(asked)
        said = self.said()
        if isinstance(said, Exception):
            raise said
        text = said(asked) if callable(said) else said
        usage = UsageMetadata(input_tokens=10, output_tokens=5, total_tokens=15)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, usage_metadata=usage))])

    def said(self) -> Any:
        """What comes next."""
        if not self.script:
            raise AssertionError("the script is over, but the model was asked again")
        return self.script.pop(0)


class AnsweringChat(ScriptedChat):
    """Answers each prompt by a function of its text, however many threads ask; it never runs out."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        super().__init__(answer)

    def said(self) -> Any:
        """The function, again."""
        return self.script[0]


class HashedWords(Embeddings):
    """A bag of hashed words: the same words give the same vector, anywhere, at once."""

    fingerprint = "hashed-words:64"

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def _vector(self, text: str) -> list[float]:
        vector = np.full(64, 1e-3)
        for word in text.lower().split():
            vector[int(hashlib.sha256(word.strip(".,?").encode()).hexdigest(), 16) % 64] += 1
        return [float(x) for x in vector / np.linalg.norm(vector)]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.embedded += texts
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self._vector(text)


class TokenWords(HashedWords):
    """Hashed words that also tell the vector of each word."""

    fingerprint = "token-words:64"

    def encode_tokens(self, texts: list[str]) -> tuple[Any, list[Any]]:
        self.embedded += texts
        words = [[self._vector(word) for word in text.split()] for text in texts]
        whole = np.array([self._vector(text) for text in texts], dtype=np.float32)
        return whole, [np.array(own, dtype=np.float32).reshape(-1, 64) for own in words]


class ScriptedRetriever(BaseRetriever):
    """Gives the same passages, whatever is asked, and remembers the questions."""

    found: list[Document]
    asked: list[str] = []

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        self.asked.append(query)
        return list(self.found)


class ScriptedAsker:
    """Doubts as it is told to."""

    def __init__(self, *doubts: float | Exception, subquestions: Sequence[Subquestion] = ()) -> None:
        self.doubts, self.subquestions = list(doubts), list(subquestions)

    def ask(self, question: str, draft: str, passages: Any = None) -> Doubt:
        said = self.doubts.pop(0)
        if isinstance(said, Exception):
            raise said
        return Doubt(self.subquestions, said, f"doubt {said}")


class ScriptedTruster:
    """Scores answers by a table from words in them."""

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores

    def score(self, question: str, answers: Sequence[str], passages: Any = None) -> list[float]:
        return [self.confidence(question, answer, passages) for answer in answers]

    def confidence(self, question: str, answer: str, passages: Any = None) -> float:
        return next((score for word, score in self.scores.items() if word in answer), 0.5)


def passage(text: str, name: str = "a.md", n: int = 0, context: str = "") -> Document:
    about = {"id": f"{name}#{n}", "document": name, "context": context, "start": 0, "end": len(text), "score": 1.0}
    return Document(text, id=f"{name}#{n}", metadata=about)


def tiny_tokenizer() -> Any:
    """A byte tokenizer with SmolLM2's chat template shape."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: n for n, token in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>", bos_token="<|im_start|>"
    )
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return fast


def tiny_chat(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A causal language model of hidden size 16 with random weights; `changes` go into its configuration."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), **{"max_position_embeddings": 1024, **shape, **ends, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def json_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
