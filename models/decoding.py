"""Answers decoded side by side: rows enter and leave between two steps, each step gives every row its next token.

The keys and values of a beginning that rows share stand in memory once. A step takes the queries of all its rows
against them in one matrix product, and each row's own tokens beside it; the two parts are joined by their sums of
exponentials (as in Hydragen, arXiv 2402.05099). Prompts are read one by one, so nothing is padded and no mask is
derived from a pad token. Where no beginnings are shared, each row's attention is computed by itself: its neighbours do
not even change the order in which its sums are rounded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

ATTENTION = "artrag_shared_beginning"
MEMORY = 2 * 2**30
"""Bytes that keys and values may take together; beyond, fewer rows are decoded at once."""

_PLAIN = {"llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2", "phi3", "granite"}
"""Model families whose layers are plain attention over keys and values and pass their options on to it."""


def plain_attention(config: Any) -> bool:
    """Has a model of this configuration full attention in every layer, and nothing added to its scores?

    Sliding windows, capped scores, attention sinks and recurrent layers do not split into parts, here or in training.
    """
    kinds = getattr(config, "layer_types", None)
    full = set(kinds) == {"full_attention"} if kinds else not getattr(config, "sliding_window", None)
    return config.model_type in _PLAIN and full


@dataclass(slots=True, eq=False)
class Beginning:
    """Keys and values of the tokens that rows begin with; for each layer (key heads, tokens, size of a head)."""

    cache: Any
    tokens: int
    keys: list[Any]
    values: list[Any]


@dataclass(slots=True, eq=False)
class Row:
    """An answer in the making: whose it is, what it begins with, the tokens read for it, and those made so far."""

    owner: Any
    beginning: Beginning
    read: int
    made: list[int] = field(default_factory=list)


def begin(model: Any, tokens: list[int]) -> Beginning:
    """Read the tokens that rows begin with; there may be none."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    if tokens:  # without the head: nobody asks what comes after a beginning
        model.base_model(torch.tensor([tokens], device=model.device), past_key_values=cache, use_cache=True)
    keys, values = ([getattr(layer, kind)[0] for layer in cache.layers] for kind in ("keys", "values"))
    return Beginning(cache, len(tokens), keys, values)


def read(model: Any, beginning: Beginning, rest: list[int]) -> tuple[int, Any]:
    """Read what follows a beginning: the first token of the answer, and the cache that holds all of it."""
    import torch
    from transformers import DynamicCache

    # A fresh cache over the same tensors: appending makes new ones and leaves those of the beginning as they are.
    cache = DynamicCache([(layer.keys, layer.values) for layer in beginning.cache.layers])
    ids = torch.tensor([rest], device=model.device)
    positions = torch.arange(beginning.tokens, beginning.tokens + len(rest), device=ids.device)[None]
    logits = model(ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    return int(logits[0, -1].argmax()), cache


class Decoding:
    """The rows that are being decoded on one model, which nobody else uses during a step."""

    def __init__(self, model: Any, most_rows: int) -> None:
        self.rows: list[Row] = []
        self._model, self._most_rows = model, most_rows
        self._own: _OwnTokens | None = None

    def room(self, own: int, new: int = 0) -> bool:
        """May a row of at most `own` tokens enter, after `new` tokens of a beginning that is not held yet?"""
        if self._own is None or not self.rows:
            return True
        held = {id(row.beginning): row.beginning.tokens for row in self.rows}
        most = min(self._most_rows, self._own.fitting(own))
        return len(self.rows) < most and (sum(held.values()) + new) * self._own.token <= MEMORY // 2

    def enter(self, row: Row, cache: Any, own: int) -> None:
        """Take in a row whose prompt was read into `cache`; it will have at most `own` tokens after its beginning."""
        if self._own is None or not self.rows:
            self._own = _OwnTokens(cache)
        self._own.grow(len(self.rows) + 1, own)
        self._own.fill(len(self.rows), cache, row.beginning.tokens)
        self.rows.append(row)

    def step(self) -> None:
        """Give every row its next token."""
        import torch

        if not self.rows or self._own is None:
            return
        with torch.inference_mode(), _attention(self._model):
            # A matrix product of one row alone rounds its sums in another order than one of several.
            places = list(range(len(self.rows))) if len(self.rows) > 1 else [0, 0]
            last = torch.tensor([[self.rows[place].made[-1]] for place in places], device=self._model.device)
            step = _Step(self._own, self.rows, places)
            logits = self._model(
                last, position_ids=step.positions, past_key_values=step, use_cache=True, shared_step=step
            ).logits
            self._own.lengths[: len(self.rows)] += 1
            for row, token in zip(self.rows, logits[: len(self.rows), -1].argmax(-1).tolist(), strict=True):
                row.made.append(token)

    def leave(self, row: Row) -> None:
        """Take a row out; the last one moves into its place."""
        import torch

        at = self.rows.index(row)
        if self._own is not None:
            with torch.inference_mode():
                self._own.move(len(self.rows) - 1, at)
        self.rows[at] = self.rows[-1]
        self.rows.pop()


class _OwnTokens:
    """Keys and values of the tokens after the beginnings; for each layer (rows, key heads, tokens, size of a head).

    Row r has `lengths[r]` of them.
    """

    def __init__(self, cache: Any) -> None:
        import torch

        like = cache.layers[0].keys
        _, heads, _, size = like.shape
        self.token = 2 * len(cache.layers) * heads * size * like.element_size()
        self.keys = [like.new_zeros(0, heads, 0, size) for _ in cache.layers]
        self.values = [like.new_zeros(0, heads, 0, size) for _ in cache.layers]
        self.lengths = torch.zeros(0, dtype=torch.long, device=like.device)

    def fitting(self, own: int) -> int:
        """Rows that fit the memory when one of them has this many tokens."""
        return int(MEMORY // 2 // (self.token * max(own, self.keys[0].shape[2])))

    def grow(self, rows: int, own: int) -> None:
        """Make room for so many rows and tokens."""
        from torch.nn.functional import pad

        held_rows, _, held, _ = self.keys[0].shape
        if rows <= held_rows and own <= held:
            return
        more = max(0, rows - held_rows, held_rows if rows > held_rows else 0)  # twice as many: few copies in all
        longer = max(0, own - held)
        self.keys = [pad(keys, (0, 0, 0, longer, 0, 0, 0, more)) for keys in self.keys]
        self.values = [pad(values, (0, 0, 0, longer, 0, 0, 0, more)) for values in self.values]
        self.lengths = pad(self.lengths, (0, more))

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

    def __init__(self, own: _OwnTokens, active: list[Row], places: list[int]) -> None:
        import torch

        device = own.lengths.device
        self._own = own
        self._rows, self._n = torch.tensor(places, device=device), len(active)
        self._at = own.lengths[self._rows]
        self._longest = int(self._at.max()) + 1
        self.hidden = torch.arange(self._longest, device=device)[None] > self._at[:, None]
        self.lengths = (self._at + 1).tolist()
        shared = torch.tensor([active[place].beginning.tokens for place in places], device=device)
        self.positions = (shared + self._at)[:, None]
        members: dict[int, tuple[Beginning, list[int]]] = {}
        for at, place in enumerate(places):
            beginning = active[place].beginning
            if beginning.tokens:
                members.setdefault(id(beginning), (beginning, []))[1].append(at)
        self.groups = [(beginning, torch.tensor(at, device=device)) for beginning, at in members.values()]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the longest row before this step."""
        return int(self.positions.max())

    def update(self, keys: Any, values: Any, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Keep the new tokens' keys and values; gives those of all own tokens up to them."""
        rows, made = len(self._rows), []
        for mine, new in ((self._own.keys[layer_idx], keys), (self._own.values[layer_idx], values)):
            mine[self._rows, :, self._at] = new[:, :, 0]
            made.append(mine[: self._n, :, : self._longest].expand(rows, -1, -1, -1))
        return made[0], made[1]


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
    from torch import cat
    from torch.nn.functional import scaled_dot_product_attention

    rows, heads, _one, size = query.shape
    query = query.reshape(rows, key.shape[1], -1, size)
    scaling = size**-0.5 if scaling is None else scaling
    if not shared_step.groups:
        each = zip(query.split(1), key.split(1), value.split(1), shared_step.lengths, strict=True)
        alone = [
            scaled_dot_product_attention(q, k[:, :, :length], v[:, :, :length], scale=scaling)
            for q, k, v, length in each
        ]
        return cat(alone).reshape(rows, 1, heads, size), None
    query = query * scaling
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
