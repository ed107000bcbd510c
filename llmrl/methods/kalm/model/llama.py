"""Llama (Touvron et al. 2023, arXiv 2302.13971) for models that are trained from scratch, in few operations.

The same function of the same weights as LlamaForCausalLM of transformers. Query, key and value are one product, and so
are gate and up. All sequences of a batch pass through these together, whatever their lengths; only attention sees one
group of equal length after the other. `compile_blocks` fuses what
lies between the products.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmrl.methods.kalm.model.config import Sizes

EPSILON = 1e-6  # of the norms
THETA = 10_000.0  # base of the rotary embedding
ROOM = 32  # positions by which a cache grows

Shapes = Sequence[tuple[int, int]]  # (rows, positions of a row) of each group; the groups lie one after the other


class Block(nn.Module):
    """The weights of one block; `projected`, `attended` and `closed` say what is done with them."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        hidden, inner = sizes.hidden, sizes.intermediate
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.gate_up = nn.Linear(hidden, 2 * inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)
        self.attention_norm, self.mlp_norm = (nn.RMSNorm(hidden, EPSILON) for _ in range(2))


def projected(x: Tensor, cos: Tensor, sin: Tensor, norm: Tensor, qkv: Tensor) -> Tensor:
    """(n, hidden) -> query, key and value (n, 3, heads, width); cos and sin (n, 1, width / 2) of the positions."""
    joint = F.linear(F.rms_norm(x, x.shape[-1:], norm, EPSILON), qkv)
    width = 2 * cos.shape[-1]
    query, key, value = joint.view(len(x), 3, -1, width).unbind(1)
    return torch.stack([rotated(query, cos, sin) * width**-0.5, rotated(key, cos, sin), value], 1)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The rotary embedding (Su et al. 2021, arXiv 2104.09864), whose pairs are i and i + width / 2."""
    first, second = x.unflatten(-1, (2, -1)).unbind(-2)
    return torch.stack([first * cos - second * sin, second * cos + first * sin], -2).flatten(-2)


def closed(x: Tensor, attended: Tensor, out: Tensor, norm: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """What follows attention in a block: (n, hidden) -> (n, hidden)."""
    x = x + F.linear(attended, out)
    gate, up = F.linear(F.rms_norm(x, x.shape[-1:], norm, EPSILON), gate_up).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, down)


def attended(qkv: Tensor, rows: int) -> Tensor:
    """Causal attention in rows of equal length: (rows * l, 3, heads, width) -> (rows * l, heads * width)."""
    query, key, value = qkv.unflatten(0, (rows, -1)).permute(2, 0, 3, 1, 4)  # each (rows, heads, l, width)
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)  # `projected` has scaled
    return out.transpose(1, 2).flatten(2).flatten(0, 1)


class Cache:
    """Keys and values of what n sequences of one length hold so far, by block."""

    def __init__(self) -> None:
        self.length = 0
        self._keys: list[Tensor] = []  # (n * heads, width, room)
        self._values: list[Tensor] = []  # (n * heads, room, width)

    def extended(self, block: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Stores what follows, (n, l, heads, width) each -> all keys (n * heads, width, t), all values."""
        key, value = (x.transpose(1, 2).flatten(0, 1) for x in (key, value))  # (n * heads, l, width)
        begin, end = self.length, self.length + key.shape[1]
        if block == len(self._keys):
            self._keys.append(key.new_empty(len(key), key.shape[2], 0))
            self._values.append(value.new_empty(len(value), 0, value.shape[2]))
        if end > self._values[block].shape[1]:
            self._keys[block], self._values[block] = self._copied(block, slice(None), begin, end + ROOM)
        self._keys[block][:, :, begin:end] = key.transpose(1, 2)
        self._values[block][:, begin:end] = value
        return self._keys[block][:, :, :end], self._values[block][:, :end]

    def keep(self, rows: Tensor, n: int) -> None:
        """Forgets all but these of the n sequences: indices (k,)."""
        for block, keys in enumerate(self._keys):
            heads = len(keys) // n
            which = (rows[:, None] * heads + torch.arange(heads, device=rows.device)).flatten()
            room = keys.shape[2]
            self._keys[block], self._values[block] = self._copied(block, which, self.length, room)

    def _copied(self, block: int, which: Tensor | slice, length: int, room: int) -> tuple[Tensor, Tensor]:
        keys, values = self._keys[block][which, :, :length], self._values[block][which, :length]
        more_keys = keys.new_empty(*keys.shape[:2], room)
        more_values = values.new_empty(len(values), room, values.shape[2])
        more_keys[:, :, :length], more_values[:, :length] = keys, values
        return more_keys, more_values


class Llama(nn.Module):
    """Embeddings -> hidden states."""

    def __init__(self, sizes: Sizes, vocabulary: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.embed_tokens = nn.Embedding(vocabulary, sizes.hidden)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.RMSNorm(sizes.hidden, EPSILON)
        self.lm_head = nn.Linear(sizes.hidden, vocabulary, bias=False)
        self._compiled: tuple[Callable, Callable] | None = None

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def forward(self, x: Tensor, shapes: Shapes, at: Tensor | None = None) -> Tensor:
        """(n, hidden), the positions of all rows of all groups -> the same, or those of places `at` (k,) alone, for
        which the last block closes no others."""
        device = x.device
        place = torch.cat([torch.arange(length, device=device).repeat(rows) for rows, length in shapes])
        sizes = [rows * length for rows, length in shapes]

        def attend(block: int, qkv: Tensor) -> Tensor:
            return torch.cat([attended(part, rows) for part, (rows, _) in zip(qkv.split(sizes), shapes)])

        return self._through(x, place, attend, at)

    def continued(self, x: Tensor, cache: Cache) -> Tensor:
        """(rows, l, hidden), what follows what the cache holds -> the same; l is 1, or the cache empty."""
        rows, length, _ = x.shape
        place = torch.arange(cache.length, cache.length + length, device=x.device).repeat(rows)

        def attend(block: int, qkv: Tensor) -> Tensor:
            keys, values = cache.extended(block, *qkv.unflatten(0, (rows, length)).unbind(2)[1:])
            if length > 1:
                return attended(qkv, rows)
            # softmax(Q K^T) V of one position: as two products, 1.3 times as fast as scaled_dot_product_attention
            query = qkv[:, 0].flatten(0, 1)[:, None]
            return torch.bmm(torch.bmm(query, keys).softmax(-1), values).view(rows, -1)

        hidden = self._through(x.flatten(0, 1), place, attend)
        cache.length += length
        return hidden.view_as(x)

    def _through(self, x: Tensor, place: Tensor, attend: Callable[..., Tensor], at: Tensor | None = None) -> Tensor:
        """Through all blocks; place (n,): the positions' numbers."""
        width = self.sizes.hidden // self.sizes.heads
        rate = THETA ** -(torch.arange(0, width, 2, device=x.device) / width)
        angle = (place[:, None] * rate)[:, None]
        cos, sin = angle.cos(), angle.sin()
        compiled = self._compiled if torch.is_grad_enabled() else None
        project, close = compiled or (projected, closed)
        for i, b in enumerate(self.blocks):
            assert isinstance(b, Block)
            own = attend(i, project(x, cos, sin, b.attention_norm.weight, b.qkv.weight))
            if at is not None and i == len(self.blocks) - 1:
                x, own = x[at], own[at]
            x = close(x, own, b.out.weight, b.mlp_norm.weight, b.gate_up.weight, b.down.weight)
        return self.norm(x)

    def compile_blocks(self) -> None:
        """Fuses what lies between the products while gradients are computed. Raises RuntimeError where torch cannot,
        such as without a C++ compiler.

        Both functions are compiled here, for any number of places and from the same example: what they compute does
        not depend on which batch comes first, and a resumed training ends like one that was not stopped.
        """
        from torch._dynamo.exc import BackendCompilerFailed
        from torch._inductor import config

        self._compiled = _for_any_length(projected, of=3), _for_any_length(closed, of=2)
        x = torch.zeros(6, self.sizes.hidden, device=self.norm.weight.device, requires_grad=True)
        try:
            with torch.enable_grad(), config.patch(compile_threads=1):  # no pool of processes that outlives this
                torch.autograd.grad(self(x, [(2, 2), (1, 2)]).sum(), x)
        except BackendCompilerFailed as error:
            self._compiled = None
            raise RuntimeError(str(error).strip().splitlines()[0]) from error


def _for_any_length(function: Callable[..., Tensor], of: int) -> Callable[..., Tensor]:
    """Compiled once for any length of its first `of` arguments."""
    compiled = torch.compile(function, dynamic=False)

    def call(*args: Tensor) -> Tensor:
        for x in args[:of]:
            torch._dynamo.mark_dynamic(x, 0)
        return compiled(*args)

    return call


# --- names in files -------------------------------------------------------------------------------------------------

# ours in a block -> those of transformers, whose rows they hold one below the other
IN_BLOCK = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
    "attention_norm": ("input_layernorm",),
    "mlp_norm": ("post_attention_layernorm",),
}


def _names(layers: int) -> dict[str, tuple[str, ...]]:
    names = {f"blocks.{i}.{own}": tuple(f"model.layers.{i}.{name}" for name in theirs)
             for i in range(layers) for own, theirs in IN_BLOCK.items()}  # fmt: skip
    names |= {"embed_tokens": ("model.embed_tokens",), "norm": ("model.norm",), "lm_head": ("lm_head",)}
    return {f"lm.{own}.weight": tuple(f"lm.{name}.weight" for name in theirs) for own, theirs in names.items()}


def unfused(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """A model's weights with the language model's by the names of transformers' LlamaForCausalLM."""
    names = _names(layers)
    found: dict[str, Tensor] = {}
    for own, weight in weights.items():
        theirs = names.get(own, (own,))
        found |= dict(zip(theirs, weight.chunk(len(theirs))))
    return found


def fused(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The inverse of `unfused`; names that are missing are left out."""
    found = dict(weights)
    for own, theirs in _names(layers).items():
        if all(name in found for name in theirs):
            found[own] = torch.cat([found.pop(name) for name in theirs])
    return found
