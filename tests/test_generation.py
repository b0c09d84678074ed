"""Writing token by token: against whole passes without memories, against exhaustive search, alone and in company."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlsvc.generation import Sampling, aligned_right, beam_search, sampled, stacked, without_end
from dlsvc.models.gpt2 import GPT2
from dlsvc.models.llama import Llama
from dlsvc.tasks.language_modeling import reading, write_on
from dlsvc.tasks.translation import Translation
from tests.models.every import build

END, VOCAB = 2, 40
TOKENS = torch.tensor([[1, 5, 6, 7, END, 0], [1, 8, END, 0, 0, 0], [1, 9, 10, 11, 12, END]])
KEEP = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": VOCAB, "max_seq_len": 24, "d_model": 16, "num_layers": 2, "num_heads": 4}
    found = GPT2(**sizes) if request.param == "gpt2" else Llama(**sizes, num_kv_heads=2, hidden_dim=24)
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.3)
    return found.eval()


def _written(model: nn.Module, rows: slice, how: Sampling, length: int = 6, count: int = 9) -> list[list[int]]:
    batch = {"tokens": TOKENS[rows, :length], "attention_mask": KEEP[rows, :length], "key": torch.arange(3)[rows]}
    with torch.inference_mode():
        return write_on(reading(model), model.max_seq_len, batch, count, how).tolist()


def test_memories_change_nothing(model: nn.Module) -> None:
    found = _written(model, slice(0, 3), Sampling())
    for row, prompt in enumerate(([1, 5, 6, 7], [1, 8], [1, 9, 10, 11, 12])):
        text = torch.tensor([prompt])
        for token in found[row]:
            assert int(model(text)[0, -1].argmax()) == token
            text = torch.cat([text, torch.tensor([[token]])], dim=1)
            if token == END:
                break


@pytest.mark.parametrize("how", [Sampling(), Sampling(1.0), Sampling(1.5, 7), Sampling(0.8, 0, 0.7)])
def test_company_changes_nothing(model: nn.Module, how: Sampling) -> None:
    together = _written(model, slice(0, 3), how)
    for row in range(3):
        (alone,) = _written(model, slice(row, row + 1), how, length=int(KEEP[row].sum()))
        assert together[row][: len(alone)] == alone
        assert set(together[row][len(alone) :]) <= {END}


def test_nothing_is_written_beyond_the_models_places(model: nn.Module) -> None:
    found = torch.tensor(_written(model, slice(0, 3), Sampling(2.0), count=30))
    for row, length in enumerate((4, 2, 5)):
        assert (found[row, 24 - length :] == END).all()


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().repeat(20000, 1)
    end, words = torch.full((20000,), -1), torch.arange(20000)

    def share(how: Sampling) -> list[float]:
        limits = torch.full((20000,), 9)
        drawn = stacked(sampled(lambda _: logits, end=end, words=words, limits=limits, num_tokens=1, how=how))
        return (torch.bincount(drawn[:, 0], minlength=4) / 20000).tolist()

    assert share(Sampling(1.0)) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.01)
    assert share(Sampling(1.0, top_k=2)) == pytest.approx([0.625, 0.375, 0, 0], abs=0.01)
    # The second one goes beyond 0.6, so it is the last.
    assert share(Sampling(1.0, top_p=0.6)) == pytest.approx([0.625, 0.375, 0, 0], abs=0.01)
    assert share(Sampling(0.5)) == pytest.approx([0.685, 0.247, 0.062, 0.007], abs=0.01)
    assert share(Sampling()) == [1, 0, 0, 0]


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_a_wide_beam_finds_the_best_text(length_penalty: float) -> None:
    """A beam as wide as all texts of three tokens against trying them all."""
    torch.manual_seed(3)
    table = torch.randn(5, 5).mul(2).log_softmax(1)  # the next token given the last one

    def score(text: tuple[int, ...]) -> float:
        logs = [table[before, token] for before, token in zip((1, *text), text, strict=False)]
        return float(sum(logs)) / len(text) ** length_penalty

    ended = [text for n in (1, 2, 3) for text in itertools.product(range(5), repeat=n) if END not in text[:-1]]
    best = max((text for text in ended if text[-1] == END or len(text) == 3), key=score)
    last = torch.full((64,), 1)

    def step(token: Tensor | None) -> Tensor:
        return table[last if token is None else token]

    found = beam_search(
        step, lambda rows: None, end=torch.tensor([END]), num_tokens=3, num_beams=64, length_penalty=length_penalty
    )[0].tolist()
    assert tuple(found[: len(best)]) == best


def test_a_narrow_beam_is_greedy_and_rows_are_their_own() -> None:
    subject = build("transformer")
    task, batch = Translation(num_beams=1), subject.batch
    subject.model.eval()
    with torch.inference_mode():
        together = [row["written"].tolist() for row in task.predict(subject.modules, batch)]
        part = {name: value[2:3] for name, value in batch.items()}
        assert task.predict(subject.modules, part)[0]["written"].tolist() == together[2]
        text = torch.ones(1, 1, dtype=torch.int64)
        for token in together[2]:
            logits = subject.model(part["tokens"], part["attention_mask"], text)
            assert int(logits[0, -1].argmax()) == token
            text = torch.cat([text, torch.tensor([[token]])], dim=1)
            if token == END:
                break


def test_prompts_lose_their_end_and_end_together() -> None:
    keep, end = without_end(TOKENS, KEEP)
    assert end.tolist() == [END] * 3
    tokens, keep, positions = aligned_right(TOKENS, keep)
    assert tokens[keep].tolist() == [1, 5, 6, 7, 1, 8, 1, 9, 10, 11, 12]
    assert keep[:, -1].all()
    assert positions[:, -1].tolist() == [3, 1, 4]
