from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from dlsvc.tasks.base import Metrics, dummy_samples
from dlsvc.tasks.language_modeling import LanguageModeling
from dlsvc.tasks.masked_language_modeling import MaskedLanguageModeling
from dlsvc.tasks.translation import Translation, scores
from tests.tasks.text_floors import KneserNey, unigram_perplexity

TOKENS = torch.tensor([[1, 5, 6, 2, 0], [1, 7, 2, 0, 0]])
KEEP = TOKENS > 0


class Uniform(nn.Module):
    """Knows nothing of any token."""

    def forward(self, tokens: Tensor, *others: Tensor) -> Tensor:
        return torch.zeros(*tokens.shape, 8)


def test_a_model_that_knows_nothing_has_the_vocabularys_perplexity() -> None:
    task, metrics = LanguageModeling(), Metrics()
    batch = {"tokens": TOKENS, "attention_mask": KEEP}
    task.measure({"model": Uniform()}, batch, metrics)
    found = task.compute(metrics)
    assert found["perplexity"] == pytest.approx(8)
    assert metrics.sums["tokens"] == 5  # two texts' tokens after the first, their ends included
    losses, report = task.losses({"model": Uniform()}, batch, "main")
    assert report["token_loss"] == pytest.approx(math.log(8))
    assert losses["next_token"] == pytest.approx(math.log(8) * 5 / 8)


def test_hidden_tokens_belong_to_the_sample() -> None:
    task = MaskedLanguageModeling(share=0.5, mask_id=4)
    task.vocab_size = 50
    tokens = torch.randint(5, 50, (400, 20))
    tokens[:, 0], tokens[:, -1] = 1, 2
    batch = {"tokens": tokens, "attention_mask": tokens > 0, **dummy_samples(400)}
    seen: list[Tensor] = []

    class Watcher(nn.Module):
        def forward(self, shown: Tensor, keep: Tensor) -> Tensor:
            seen.append(shown)
            return torch.zeros(*shown.shape, 50)

    _, counted, _ = task._guessed({"model": Watcher()}, batch)
    task._guessed({"model": Watcher()}, {name: value[7:9] for name, value in batch.items()})
    assert torch.equal(seen[0][7:9], seen[1])
    assert not counted[:, [0, -1]].any()
    assert counted[:, 1:-1].float().mean() == pytest.approx(0.5, abs=0.02)
    changed = seen[0][counted]
    assert (changed == 4).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (changed == tokens[counted]).float().mean() == pytest.approx(0.1, abs=0.02)
    assert torch.equal(seen[0][~counted], tokens[~counted])
    replaced = changed[(changed != 4) & (changed != tokens[counted])]
    assert replaced.min() == 5
    assert replaced.max() == 49


def test_a_mask_at_the_vocabularys_end_is_replaced_by_what_comes_before_it() -> None:
    task = MaskedLanguageModeling(mask_id=49)
    task.vocab_size = 50
    batch = {"tokens": torch.zeros(400, 20, dtype=torch.int64), **dummy_samples(400)}
    *_, other = task._draws(batch)
    assert (other.min(), other.max()) == (0, 48)


def test_translation_scores_are_sacrebleus() -> None:
    assert scores(["the cat sat on the mat"], ["the cat sat on the mat"]) == {
        "chrf": pytest.approx(100),
        "bleu": pytest.approx(100),
    }
    low = scores(["a dog"], ["the cat sat on the mat"])
    assert 0 <= low["bleu"] < 5
    assert 0 < low["chrf"] < 20


def test_only_the_first_samples_are_scored() -> None:
    task, metrics = Translation(scored=1, num_beams=1), Metrics()
    task.read_tokens = lambda ids: " ".join(map(str, ids))

    class Copier(nn.Module):
        """Writes 5 until the end of time."""

        def encode(self, tokens: Tensor, keep: Tensor) -> Tensor:
            return tokens[..., None].float()

        def memories(self) -> list[tuple[()]]:
            return []

        def decode(self, target: Tensor, *others: Tensor, **options: object) -> Tensor:
            return nn.functional.one_hot(torch.full_like(target, 5), 8).float()

        def forward(self, tokens: Tensor, keep: Tensor, target: Tensor, target_keep: Tensor) -> Tensor:
            return self.decode(target)

    batch = {"tokens": TOKENS, "attention_mask": KEEP, "target_tokens": TOKENS, "target_attention_mask": KEEP}
    task.measure({"model": Copier()}, {**batch, **dummy_samples(2)}, metrics)
    assert metrics.rows("written").tolist() == [[5, 5, 5, 5]]
    assert metrics.sums["tokens"] == 5
    assert set(task.compute(metrics)) == {"chrf", "bleu", "perplexity", "token_accuracy"}


def test_kneser_ney_is_a_distribution_and_learns() -> None:
    texts = [[1, 4, 5, 6, 2], [1, 4, 5, 7, 2], [1, 5, 6, 2]]
    model = KneserNey(texts, 8, order=3)
    for history in ((1,), (1, 4), (4, 5), (9, 9), (5, 6)):
        assert sum(model.probability(history, token) for token in range(8)) == pytest.approx(1)
    assert model.probability((1, 4), 5) > 0.7
    # In lower orders what has followed more tokens counts for more, however often it did.
    assert model.perplexity(texts) < unigram_perplexity(texts, texts, 8)
