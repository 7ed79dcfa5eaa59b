"""Many prompts of which some share a beginning: each beginning is read once, all answers are decoded side by side.

The keys and values of a beginning stand in memory once, however many prompts go on from it. A decoding step takes the
queries of all its rows against them in one matrix product, and each row's own tokens beside it; the two parts are
joined by their sums of exponentials (as in Hydragen, arXiv 2402.05099). Prompts are read one by one, so nothing is
padded, no mask is derived from a pad token, and a row's text does not depend on its neighbours.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

ATTENTION = "artrag_shared_beginning"
MEMORY = 2 * 2**30
"""Bytes that keys and values may take together; beyond, fewer rows are decoded at once."""

_PLAIN = {"llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2", "phi3", "granite"}
"""Model families whose layers are plain attention over keys and values and pass their options on to it."""


def shares_beginnings(config: Any) -> bool:
    """Can a model of this configuration be used here: full attention in every layer, nothing added to its scores?

    Sliding windows, capped scores, attention sinks and recurrent layers do not split into two parts this way.
    """
    kinds = getattr(config, "layer_types", None)
    full = set(kinds) == {"full_attention"} if kinds else not getattr(config, "sliding_window", None)
    return config.model_type in _PLAIN and full


def grouped(prompts: Sequence[Sequence[int]]) -> list[tuple[list[int], int]]:
    """Neighbours that share a beginning worth keeping: (numbers of the prompts, tokens they all begin with).

    Each prompt keeps at least one token of its own. A prompt joins its predecessors where that does not shorten what
    they share by more than it saves.
    """
    groups: list[tuple[list[int], int]] = []
    for number, prompt in enumerate(prompts):
        if groups:
            members, shared = groups[-1]
            both = _common(prompts[members[0]], prompt)
            n = len(members)
            if min(shared, both) * n > shared * (n - 1) and 4 * both > shared:
                groups[-1] = ([*members, number], min(shared, both))
                continue
        groups.append(([number], len(prompt) - 1))
    return groups


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    most = min(len(one), len(other)) - 1
    return next((at for at in range(most) if one[at] != other[at]), most)


@dataclass(slots=True, eq=False)
class _Beginning:
    """Keys and values of the tokens that a group begins with; for each layer (key heads, tokens, size of a head)."""

    cache: Any
    tokens: int
    keys: list[Any]
    values: list[Any]


@dataclass(slots=True)
class _Row:
    """An answer in the making: the number of its prompt, the tokens read for it, and those made so far."""

    number: int
    beginning: _Beginning
    read: int
    made: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Reading:
    """Reads prompts in order, each beginning when the first of its group is due."""

    model: Any
    prompts: Sequence[list[int]]
    waiting: deque[tuple[int, int, int]] = field(default_factory=deque)
    """(number, shared tokens, group)"""
    now: tuple[int, _Beginning] | None = None

    def next(self) -> tuple[_Row, Any]:
        """The next row with its first token, and the cache that holds its tokens after those of its beginning."""
        import torch
        from transformers import DynamicCache

        number, shared, group = self.waiting.popleft()
        unpaid = 0  # the first of a group pays for what all begin with
        if self.now is None or self.now[0] != group:
            self.now = None  # free the one before, unless rows still use it
            self.now = (group, self._begin(self.prompts[number][:shared]))
            unpaid = shared
        beginning = self.now[1]
        rest = self.prompts[number][shared:]
        # A fresh cache over the same tensors: appending makes new ones and leaves those of the beginning as they are.
        cache = DynamicCache([(layer.keys, layer.values) for layer in beginning.cache.layers])
        ids = torch.tensor([rest], device=self.model.device)
        positions = torch.arange(shared, shared + len(rest), device=ids.device)[None]
        logits = self.model(ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return _Row(number, beginning, len(rest) + unpaid, [int(logits[0, -1].argmax())]), cache

    def _begin(self, tokens: list[int]) -> _Beginning:
        import torch
        from transformers import DynamicCache

        cache = DynamicCache()
        if tokens:  # without the head: nobody asks what comes after a beginning
            self.model.base_model(
                torch.tensor([tokens], device=self.model.device), past_key_values=cache, use_cache=True
            )
        keys, values = ([getattr(layer, kind)[0] for layer in cache.layers] for kind in ("keys", "values"))
        return _Beginning(cache, len(tokens), keys, values)


def decode(
    model: Any, prompts: Sequence[list[int]], ended: Callable[[list[int]], bool], *, most: int, rows: int
) -> Iterator[tuple[int, list[int], int]]:
    """Answer prompts greedily: (number of the prompt, tokens of its answer, tokens read for it) as each one ends.

    Args:
        model: a causal language model for which `shares_beginnings` holds, used by nobody else meanwhile.
        prompts: token ids, none of them empty; those that share a beginning stand together.
        ended: of an answer's tokens so far: is it at its end?
        most: tokens an answer may have.
        rows: answers decoded at once; where one ends, the next prompt takes its place.
    """
    import torch

    groups = grouped(prompts)
    due = deque((number, shared, n) for n, (members, shared) in enumerate(groups) for number in members)
    reading = _Reading(model, prompts, due)
    longest = max(len(prompts[number]) - shared for number, shared, _ in due) + most
    own: _OwnTokens | None = None
    active: list[_Row] = []

    def leave() -> list[tuple[int, list[int], int]]:
        """Take out the rows that are at their end; the last ones move into their places."""
        left = []
        for at in reversed(range(len(active))):
            row = active[at]
            if own is not None and (len(row.made) >= most or ended(row.made)):
                own.move(len(active) - 1, at)
                active[at] = active[-1]
                active.pop()
                left.append((row.number, row.made, row.read))
        return left

    while due or active:
        while due and (own is None or own.room(active, due[0], reading.now)):
            with torch.inference_mode():
                row, cache = reading.next()
                own = own or _OwnTokens(cache, longest, min(rows, len(prompts)))
                own.fill(len(active), cache, row.beginning.tokens)
                active.append(row)
                left = leave()
            yield from left
        if not due:
            reading.now = None
        if active and own is not None:
            with torch.inference_mode(), _attention(model):
                last = torch.tensor([[row.made[-1]] for row in active], device=model.device)
                step = _Step(own, active)
                logits = model(
                    last, position_ids=step.positions, past_key_values=step, use_cache=True, shared_step=step
                ).logits
                own.lengths[: len(active)] += 1
                for row, token in zip(active, logits[:, -1].argmax(-1).tolist(), strict=True):
                    row.made.append(token)
                left = leave()
            yield from left


class _OwnTokens:
    """Keys and values of the tokens after the beginnings; for each layer (rows, key heads, tokens, size of a head).

    Row r has `lengths[r]` of them.
    """

    def __init__(self, cache: Any, longest: int, rows: int) -> None:
        import torch

        like = cache.layers[0].keys
        _, heads, _, size = like.shape
        self._token = 2 * len(cache.layers) * heads * size * like.element_size()
        self._longest = longest
        self.rows = max(1, min(rows, MEMORY // 2 // (self._token * longest)))
        self.keys = [like.new_zeros(self.rows, heads, longest, size) for _ in cache.layers]
        self.values = [like.new_zeros(self.rows, heads, longest, size) for _ in cache.layers]
        self.lengths = torch.zeros(self.rows, dtype=torch.long, device=like.device)

    def room(self, active: list[_Row], due: tuple[int, int, int], now: tuple[int, _Beginning] | None) -> bool:
        """Is there room for the next row, and for its beginning where that is a new one?"""
        if not active:
            return True
        held = {id(row.beginning): row.beginning.tokens for row in active}
        new = 0 if now is not None and now[0] == due[2] else due[1]
        return bool(len(active) < self.rows and (sum(held.values()) + new) * self._token <= MEMORY // 2)

    def fill(self, row: int, cache: Any, shared: int) -> None:
        """Take a row's own tokens from a cache that holds its beginning and them."""
        length = cache.get_seq_length() - shared
        for keys, values, layer in zip(self.keys, self.values, cache.layers, strict=True):
            keys[row, :, :length] = layer.keys[0, :, shared:]
            values[row, :, :length] = layer.values[0, :, shared:]
        self.lengths[row] = length

    def move(self, source: int, target: int) -> None:
        """Put one row in the place of another."""
        if source != target:
            length = int(self.lengths[source])
            for mine in (*self.keys, *self.values):
                mine[target, :, :length] = mine[source, :, :length]
            self.lengths[target] = length


class _Step:
    """One decoding step: what a layer takes for its cache, and what `_attend` must know of the rows."""

    is_compileable = False

    def __init__(self, own: _OwnTokens, active: list[_Row]) -> None:
        import torch

        n, device = len(active), own.lengths.device
        self._own, self._n = own, n
        self._rows = torch.arange(n, device=device)
        self._at = own.lengths[:n]
        self._longest = int(self._at.max()) + 1
        self.hidden = torch.arange(self._longest, device=device)[None] > self._at[:, None]
        shared = torch.tensor([row.beginning.tokens for row in active], device=device)
        self.positions = (shared + self._at)[:, None]
        members: dict[int, tuple[_Beginning, list[int]]] = {}
        for at, row in enumerate(active):
            if row.beginning.tokens:
                members.setdefault(id(row.beginning), (row.beginning, []))[1].append(at)
        self.groups = [(beginning, torch.tensor(at, device=device)) for beginning, at in members.values()]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the longest row before this step."""
        return int(self.positions.max())

    def update(self, keys: Any, values: Any, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Keep the new tokens' keys and values; gives those of all own tokens up to them."""
        mine, n = (self._own.keys[layer_idx], self._own.values[layer_idx]), self._n
        mine[0][self._rows, :, self._at] = keys[:, :, 0]
        mine[1][self._rows, :, self._at] = values[:, :, 0]
        return mine[0][:n, :, : self._longest], mine[1][:n, :, : self._longest]


def _attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    shared_step: _Step,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Attention of one new token a row over the row's beginning and its own tokens.

    `query` is (rows, heads, 1, size), `key` and `value` (rows, key heads, own tokens, size); key head j serves the
    query heads j*g .. j*g + g - 1.
    """
    rows, heads, _one, size = query.shape
    query = query.reshape(rows, key.shape[1], -1, size) * (size**-0.5 if scaling is None else scaling)
    made, most, total = _part(query, key, value, shared_step.hidden[:, None, None])
    for beginning, members in shared_step.groups:
        keys, values = beginning.keys[module.layer_idx], beginning.values[module.layer_idx]
        mine = query[members].transpose(0, 1)  # (key heads, rows, g, size): one product for all rows
        shape = mine.shape
        early, early_most, early_total = _part(mine.reshape(shape[0], -1, size), keys, values)
        early, early_most, early_total = (
            part.reshape(*shape[:3], -1).transpose(0, 1) for part in (early, early_most, early_total)
        )
        old_most, old_total = most[members], total[members]
        new_most = old_most.maximum(early_most)
        old_scale, early_scale = (old_most - new_most).exp(), (early_most - new_most).exp()
        made[members] = made[members] * old_scale + early * early_scale
        total[members] = old_total * old_scale + early_total * early_scale
    return (made / total).to(value.dtype).reshape(rows, 1, heads, size), None


def _part(query: Any, keys: Any, values: Any, hidden: Any = None) -> tuple[Any, Any, Any]:
    """Unfinished attention in float32: the sum of values weighted by exp(score - most), most, and the weights' sum."""
    scores = (query @ keys.transpose(-1, -2)).float()
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    most = scores.amax(-1, keepdim=True)
    weights = (scores - most).exp()
    return (weights.to(values.dtype) @ values).float(), most, weights.sum(-1, keepdim=True)


@contextmanager
def _attention(model: Any) -> Iterator[None]:
    """Let the model's layers use `_attend` for a while."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attend)
    usual = model.config._attn_implementation_internal
    model.config._attn_implementation_internal = ATTENTION  # the setter would look for a kernel of this name
    try:
        yield
    finally:
        model.config._attn_implementation_internal = usual
