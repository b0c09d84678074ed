"""Tokens a second against transformers' eager models of the same weights, and words a second against gensim; paired in
one run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlsvc.data.preprocess import Preprocess
from dlsvc.data.source import open_source
from dlsvc.data.tensors import to_tensors
from dlsvc.data.text_input import TextInput
from dlsvc.data.tokenizer import WordTokenizer, split_words
from dlsvc.models.gpt2 import GPT2
from dlsvc.models.word2vec import Word2Vec
from dlsvc.spec.data_sections import DataSpec
from dlsvc.store.keymaps import export_weights
from dlsvc.tasks.base import dummy_samples
from dlsvc.tasks.language_modeling import LanguageModeling
from dlsvc.tasks.word_embedding import WordEmbedding

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
PAIRS, THREADS = 5, 2
# GPT-2 small's width in a third of its layers, over a vocabulary of its size.
SIZES = {"vocab_size": 50257, "max_seq_len": 256, "d_model": 768, "num_layers": 4, "num_heads": 12, "dropout": 0.0}
BATCH, LENGTH, PROMPT, WRITTEN = 2, 128, 32, 64
# As the recipe word2vec-wordnet has them.
TEXTS, WORDS, WIDTH, WINDOW, NEGATIVES = 20_000, 16_000, 64, 5, 5


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _ratio(ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float]:
    """How many times as fast ours is, and how long it takes: medians of pairs, after one of each that isn't counted."""
    pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(PAIRS + 1)][1:]
    return statistics.median(b / a for a, b in pairs), statistics.median(a for a, _ in pairs)


@pytest.fixture
def models() -> tuple[GPT2, Any]:
    transformers = pytest.importorskip("transformers", reason="`make test-interop` installs transformers")
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    ours = GPT2(**SIZES)
    config = transformers.GPT2Config(
        n_positions=SIZES["max_seq_len"],
        n_layer=SIZES["num_layers"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation="eager",
    )
    theirs = transformers.GPT2LMHeadModel(config)
    theirs.load_state_dict(export_weights("transformers/gpt2", ours.state_dict()), strict=False)
    return ours, theirs


def test_training_tokens_a_second(models: tuple[GPT2, Any]) -> None:
    ours, theirs = models
    tokens = torch.randint(5, SIZES["vocab_size"], (BATCH, LENGTH))
    batch = {"tokens": tokens, "attention_mask": torch.ones_like(tokens, dtype=torch.bool), **dummy_samples(BATCH)}
    task, optimizers = LanguageModeling(), [torch.optim.AdamW(model.parameters(), 1e-4) for model in models]

    def step_of_ours() -> None:
        optimizers[0].zero_grad()
        losses, _ = task.losses({"model": ours}, batch, "main")
        losses["next_token"].backward()
        optimizers[0].step()

    def step_of_theirs() -> None:
        optimizers[1].zero_grad()
        theirs(input_ids=tokens, labels=tokens).loss.backward()
        optimizers[1].step()

    ratio, seconds = _ratio(step_of_ours, step_of_theirs)
    print(f"\ntraining: {BATCH * LENGTH / seconds:.0f} tokens/s, {ratio:.2f} times transformers' eager")


def test_generated_tokens_a_second(models: tuple[GPT2, Any]) -> None:
    ours, theirs = (model.eval() for model in models)
    tokens = torch.randint(5, SIZES["vocab_size"], (BATCH, PROMPT))
    # The end of a prompt is taken off before it is gone on from; an id that nothing writes ends no text early.
    ended = torch.cat([tokens, torch.full((BATCH, 1), 3)], dim=1)
    batch = {"tokens": ended, "attention_mask": torch.ones_like(ended, dtype=torch.bool), **dummy_samples(BATCH)}
    task = LanguageModeling(max_new_tokens=WRITTEN)
    given = {"attention_mask": torch.ones_like(tokens), "pad_token_id": 3, "do_sample": False}
    with torch.inference_mode():
        ratio, seconds = _ratio(
            lambda: task.predict({"model": ours}, batch),
            lambda: theirs.generate(
                tokens, **given, max_new_tokens=WRITTEN, min_new_tokens=WRITTEN, eos_token_id=None, use_cache=True
            ),
        )
    print(f"\nwriting: {BATCH * WRITTEN / seconds:.0f} tokens/s, {ratio:.2f} times transformers' eager")


def test_words_a_second(home: Path) -> None:
    """One pass over the same texts on one thread; ours decodes, draws and steps as a worker does."""
    gensim = pytest.importorskip("gensim.models", reason="a peer, and no dependency of ours")
    torch.set_num_threads(1)
    table = open_source(DataSpec(source="wordnet"), home).table("train")
    rows = table.rows(np.arange(TEXTS))
    texts = list(rows["text"])
    tokenizer = WordTokenizer.fit(texts, WORDS)
    preprocess = Preprocess(text=TextInput(tokenizer, 32))
    task = WordEmbedding(window=WINDOW, negatives=NEGATIVES, subsample=1e-3)
    count = sum(len(split_words(text)) for text in texts)

    def ours() -> None:
        model = Word2Vec(vocab_size=WORDS, d_model=WIDTH)
        modules, optimizer = task.modules(model), torch.optim.Adam(model.parameters(), 2e-3)
        for first in range(0, TEXTS, 64):
            arrays = preprocess.finish({"text": texts[first : first + 64]})
            batch = {**to_tensors(arrays, torch.device("cpu")), **dummy_samples(len(arrays["tokens"]))}
            optimizer.zero_grad()
            task.losses(modules, batch, "main")[0]["pairs"].backward()
            optimizer.step()

    def theirs() -> None:
        gensim.Word2Vec(
            [split_words(text) for text in texts],
            vector_size=WIDTH,
            window=WINDOW,
            negative=NEGATIVES,
            sample=1e-3,
            sg=1,
            max_final_vocab=WORDS,
            min_count=1,
            workers=1,
            epochs=1,
        )

    ratio, seconds = _ratio(ours, theirs)
    print(f"\nword2vec: {count / seconds:,.0f} words/s on one thread, {ratio:.3f} times gensim")
