"""Writing token by token: sampling and beam search, as functions of whatever gives the next token's logits.

B batch, T tokens, V vocabulary, K beams. Each text's randomness belongs to its own key, and prompts are aligned at
their ends, so that what is written of one doesn't depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dlsvc.augment import keys
from dlsvc.nn.totals import running_totals

# The next token's logits (B, V) of the last tokens (B,); None at the first call, which reads the prompt.
Step = Callable[[Tensor | None], Tensor]
# Keep these rows of whatever the steps remember, (B * K,).
Reorder = Callable[[Tensor], None]


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen: the likeliest at temperature 0, else drawn from the `top_k` likeliest (0: from all) that
    together have `top_p` of the probability (Holtzman et al. 2020).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0


def aligned_right(tokens: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Texts that begin together as texts that end together: tokens, what counts of them, and positions, all (B, T)."""
    length = tokens.shape[1]
    shift = length - keep.sum(1, keepdim=True)
    places = torch.arange(length, device=tokens.device) - shift
    moved = tokens.gather(1, places.clamp(min=0))
    kept = places >= 0
    return torch.where(kept, moved, tokens[:, :1]), kept, places.clamp(min=0)


def without_end(tokens: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Encoded texts without the token that ends them, as what counts of them, (B, T); and that token, (B,)."""
    last = keep.sum(1, keepdim=True) - 1
    end = tokens.gather(1, last)[:, 0]
    return keep & (torch.arange(tokens.shape[1], device=tokens.device) < last), end


def sampled(
    step: Step, *, end: Tensor, words: Tensor, limits: Tensor, num_tokens: int, how: Sampling = Sampling()
) -> Iterator[tuple[Tensor, Tensor]]:
    """One token after the other, (B,), and whether it is the text's last, of up to `num_tokens` after a prompt and of
    each text up to its limit (B,): one that has ended goes on with its `end` (B,). `words` (B,) int64 are the samples'
    keys.
    """
    token: Tensor | None = None
    ended = torch.zeros(len(end), dtype=torch.bool, device=end.device)
    for number in range(num_tokens):
        ended = ended | (limits <= number)
        logits = step(token).float()
        chosen = _drawn(logits, words, number, how) if how.temperature > 0 else logits.argmax(1)
        token = torch.where(ended, end, chosen)
        ended = ended | (token == end)
        yield token, ended | (limits <= number + 1) | (number == num_tokens - 1)
        if ended.all():
            return


def stacked(found: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
    """All tokens of `sampled`, (B, N)."""
    return torch.stack([token for token, _ in found], dim=1)


def _drawn(logits: Tensor, words: Tensor, number: int, how: Sampling) -> Tensor:
    """One token a row, by where a uniform number of the row's own falls among the sorted probabilities."""
    values, order = (logits.double() / how.temperature).sort(dim=1, descending=True, stable=True)
    if how.top_k:
        values[:, how.top_k :] = -torch.inf
    shares = values.softmax(1)
    before = running_totals(shares) - shares
    shares = torch.where(before < how.top_p, shares, 0.0)  # the first token that goes beyond is the last one
    ends = running_totals(shares)
    own = keys.uniform(keys.derive(words.cpu().numpy().view(np.uint64), f"token-{number}"))
    at = torch.from_numpy(own).to(logits.device)[:, None] * ends[:, -1:]
    place = torch.searchsorted(ends, at, right=True).clamp(max=logits.shape[1] - 1)
    return order.gather(1, place)[:, 0]


def beam_search(
    step: Step, reorder: Reorder, *, end: Tensor, num_tokens: int, num_beams: int, length_penalty: float = 1.0
) -> Tensor:
    """The text of the highest log-probability / length^penalty among those that a beam of `num_beams` finds, (B, N),
    filled up with its `end` (B,). Steps are of B * K rows, the K beams of a text beside each other.
    """
    batch, device = len(end), end.device
    scores = torch.full((batch, num_beams), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all beams are alike at first
    texts = torch.empty((batch, num_beams, 0), dtype=torch.int64, device=device)
    best = torch.full((batch, num_tokens), 0, dtype=torch.int64, device=device) + end[:, None]
    best_score = torch.full((batch,), -torch.inf, device=device)
    token: Tensor | None = None
    for number in range(1, num_tokens + 1):
        logs = step(token).float().log_softmax(1).view(batch, num_beams, -1)
        ranked, places = (scores[..., None] + logs).flatten(1).topk(2 * num_beams, dim=1)
        beams, chosen = places // logs.shape[2], places % logs.shape[2]
        ends = chosen == end[:, None]
        # Only what ends among the first K counts, as the beam would have kept it.
        finished = ranked.masked_fill(~ends, -torch.inf)[:, :num_beams] / number**length_penalty
        score, which = finished.max(1)
        better = score > best_score
        best_score = torch.where(better, score, best_score)
        written = texts.gather(1, beams.gather(1, which[:, None])[..., None].expand(-1, 1, texts.shape[2]))[:, 0]
        padded = torch.cat([written, end[:, None].expand(-1, num_tokens - written.shape[1])], dim=1)
        best = torch.where(better[:, None], padded, best)
        # Of 2 K candidates at most K end, so K are left to go on with.
        going = ranked.masked_fill(ends, -torch.inf).topk(num_beams, dim=1)
        scores = going.values
        beams, chosen = beams.gather(1, going.indices), chosen.gather(1, going.indices)
        texts = torch.cat([texts.gather(1, beams[..., None].expand(-1, -1, texts.shape[2])), chosen[..., None]], dim=2)
        # A score only falls, and its length grows at most to the end of the budget.
        longest = num_tokens if length_penalty > 0 else number
        if (scores[:, 0] / longest**length_penalty <= best_score).all():
            return best
        reorder((torch.arange(batch, device=device)[:, None] * num_beams + beams).flatten())
        token = chosen.flatten()
    unfinished = scores[:, 0] / num_tokens**length_penalty
    return torch.where((unfinished > best_score)[:, None], texts[:, 0], best)
