"""word2vec's loss as gensim adds it up while it trains: same vectors, same sentence, negatives that can only be one
word, and a learning rate that changes nothing.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dlsvc.models.word2vec import Word2Vec
from dlsvc.tasks.base import dummy_samples
from dlsvc.tasks.word_embedding import WordEmbedding

word2vec = pytest.importorskip("gensim.models.word2vec", reason="`make test-interop` installs gensim")

WORDS = ["cat", "sits", "here", "the"]  # the last one is all but certain to be drawn
FIRST_ID, WIDTH, NEGATIVES = 4, 16, 5
# gensim reads logarithms from a table of 1,000 steps from -6 to 6, whose places it finds by 83 for 1000 / 12: so a
# logit is taken for one that is up to (6 + logit) / 250 + 0.012 less, and half of that counts.
BESIDE = 0.02


@pytest.mark.parametrize("method", ["skip-gram", "cbow"])
def test_the_loss_is_gensims(method: str) -> None:
    draws = np.random.default_rng(0)
    words, contexts = (draws.normal(0, 0.4, (len(WORDS), WIDTH)).astype(np.float32) for _ in range(2))
    theirs = word2vec.Word2Vec(
        vector_size=WIDTH, sg=method == "skip-gram", window=1, negative=NEGATIVES, min_count=1, sample=0, workers=1
    )
    theirs.build_vocab_from_freq(dict.fromkeys(WORDS[:-1], 1) | {WORDS[-1]: 10**15})
    for place, word in enumerate(WORDS):
        theirs.wv.vectors[theirs.wv.key_to_index[word]] = words[place]
        theirs.syn1neg[theirs.wv.key_to_index[word]] = contexts[place]
    sentence, still = [WORDS[:-1]], 1e-30
    theirs.train(sentence, total_examples=1, epochs=1, start_alpha=still, end_alpha=still, compute_loss=True)
    expected = theirs.get_latest_training_loss()

    model = Word2Vec(vocab_size=FIRST_ID + len(WORDS), d_model=WIDTH)
    task = WordEmbedding(method=method, window=1, negatives=NEGATIVES, subsample=0.0)
    task.frequency = np.array([0.0] * (FIRST_ID + len(WORDS) - 1) + [1.0])
    with torch.no_grad():
        model.words.weight[FIRST_ID:] = torch.from_numpy(words)
        model.contexts.weight[FIRST_ID:] = torch.from_numpy(contexts)
        tokens = torch.arange(FIRST_ID, FIRST_ID + len(WORDS) - 1)[None]
        batch = {"tokens": tokens, "attention_mask": torch.ones_like(tokens, dtype=torch.bool), **dummy_samples(1)}
        losses, _ = task.losses({"model": model}, batch, task.phases[0])
    pairs = 4 if method == "skip-gram" else 3
    found = float(losses["pairs"]) * tokens.numel()
    print(f"{method}: {found:.3f}, gensim {expected:.3f}")
    assert found == pytest.approx(expected, abs=BESIDE * pairs * (1 + NEGATIVES))
