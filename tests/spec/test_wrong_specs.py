"""Wrong specs: each problem is found, at the place where it was written. `^^` marks the place and isn't in the spec."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from dlsvc.errors import SpecError
from dlsvc.spec.load import load

_HEAD = "kind: train\nname: sound\n"
_LENET = "model: {name: lenet5, args: {image_size: 28}}\n"
_DIGITS = "data: {source: digits, image: {size: 28}}\n"
_BUDGET = "budget: {steps: 10}\n"
_SOUND = _HEAD + _LENET + _DIGITS + _BUDGET
_GAN = _HEAD + "model: {name: gan, args: {image_size: 28, in_channels: 1}}\n" + _DIGITS + _BUDGET
_HEARS = "model: {name: audio_cnn, args: {num_classes: 5, num_bins: 64}}\n"
_WORDS = _HEAD + "model: {name: word2vec}\n" + _BUDGET
_LLAVA = (
    _HEAD
    + _BUDGET
    + "model: {name: llava, args: {vision: {image_size: 32, patch_size: 8}}}\n"
    + "data: {source: easy-vqa, image: {size: 32, channels: 3}, text: {chat: true, column: question, target: answer}}\n"
)
_BLIP2 = (
    _HEAD
    + _BUDGET
    + "model: {name: blip2, args: {vision: {image_size: 32}, language: {max_seq_len: 40}}}\n"
    + "data: {source: emoji, image: {size: 32, channels: 3}, text: {max_seq_len: 8}}\n"
)
_TUNE = "kind: tune\nname: search\ntrain:\n" + textwrap.indent(_SOUND, "  ").replace("  kind: train\n", "")
_UNIT = "28, mean: [0.0], std: [1.0]}}\n  b"
_SERVE = "kind: serve\n"

# (text with ^^ before the wrong place, path, a part of the message)
WRONG: dict[str, tuple[str, str, str]] = {
    # What YAML itself would let pass.
    "duplicate key": (_SOUND + "seed: 1\n^^seed: 2\n", "", "'seed' is given again; it stands first on line 6"),
    "duplicate inner key": (
        _HEAD + _DIGITS + _BUDGET + "model:\n  name: lenet5\n  args: {image_size: 28}\n  ^^name: vit\n",
        "",
        "first on line 6",
    ),
    "alias": (_SOUND + "freeze: [^^*a]\n", "", "the alias *a is refused"),
    "anchor": (_SOUND + "seed: ^^&a 1\n", "", "the anchor &a is refused"),
    "python tag": (_SOUND + "freeze: ^^!!python/name:os.system ''\n", "", "is refused; a spec is plain data"),
    "integer tag": (_SOUND + "seed: ^^!!int '1'\n", "", "is refused; a spec is plain data"),
    "second document": (_SOUND + "---\n^^kind: train\n", "", "a second document"),
    "section as key": (_SOUND + "? ^^[a]\n: 1\n", "", "a key must be a plain word"),
    "broken flow": (_HEAD + "model: {name: lenet5\ndata^^: {source: digits}\n", "", "isn't YAML"),
    "tab": (_HEAD + "model:\n^^\tname: lenet5\n", "", "isn't YAML"),
    # Fields.
    "unknown field": (_SOUND + "^^optm: {lr: 1}\n", "optm", "did you mean 'optim'?"),
    "field of another section": (_SOUND + "^^lr: 1\n", "lr", "did you mean 'optim.lr'?"),
    "unknown inner field": (_SOUND + "optim: {^^learning_rat: 1}\n", "optim.learning_rat", "there is no such field"),
    "missing model": (f"^^{_HEAD}{_DIGITS}{_BUDGET}", "model", "is missing"),
    "missing budget": (f"^^{_HEAD}{_LENET}{_DIGITS}", "budget", "is missing"),
    "missing kind": (f"^^name: x\n{_LENET}", "kind", "one of train, tune, serve"),
    "unknown kind": ("kind: ^^trian\n", "kind", "did you mean 'train'?"),
    "kind of another type": ("kind: ^^[train]\n", "kind", "no spec is of kind"),
    "upper case name": (_SOUND.replace("sound", "^^Sound"), "name", "a name of 1 to 63 of a-z, 0-9 and -"),
    "traversal": (_SOUND.replace("sound", "^^../sound"), "name", "not '../sound'"),
    "traversal in alias": (_SOUND + "publish: {alias: ^^../../x}\n", "publish.alias", "must be an alias"),
    "promotion without an alias": (
        _SOUND + "publish:\n  promote_if: ^^{accuracy: '> 0.9'}\n",
        "publish.promote_if",
        "give publish.alias too",
    ),
    "promotion by no metric": (
        _SOUND + "publish: {alias: prod, promote_if: {accuracc: ^^'> 0.9'}}\n",
        "publish.promote_if.accuracc",
        "did you mean 'accuracy'?",
    ),
    "promotion by two numbers": (
        _SOUND + "publish: {alias: prod, promote_if: {accuracy: ^^'> 1.2.3'}}\n",
        "publish.promote_if.accuracy",
        "must be a comparison such as `>= 0.97`",
    ),
    "a number as alias": (_SOUND + "publish: {alias: ^^'3'}\n", "publish.alias", "and not a number alone"),
    "promotion by no comparison": (
        _SOUND + "publish: {alias: prod, promote_if: {accuracy: ^^high}}\n",
        "publish.promote_if.accuracy",
        "must be a comparison",
    ),
    "samples of a classifier": (
        _SOUND + "evaluate:\n  fidelity: ^^{features: lenet5}\n",
        "evaluate.fidelity",
        "task classification makes no samples; adversarial, denoising, latent-denoising, reconstruction do",
    ),
    "traversal in init_from": (_SOUND + "init_from: {'*': ^^../x@best}\n", "init_from.*", "name, name@3 or name@alias"),
    "long name": (_SOUND.replace("sound", "^^" + "a" * 64), "name", "1 to 63"),
    "number as text": (_SOUND + "seed: ^^'7'\n", "seed", "must be a whole number, not '7'"),
    "boolean as number": (_SOUND + "seed: ^^true\n", "seed", "must be a whole number, not true"),
    "fraction": (_SOUND + "batch: {global_size: ^^64.5}\n", "batch.global_size", "must be a whole number, not 64.5"),
    "negative seed": (_SOUND + "seed: ^^-1\n", "seed", "must be at least 0, not -1"),
    "large seed": (_SOUND + "seed: ^^9223372036854775808\n", "seed", "at most 9223372036854775807"),
    "infinite": (_SOUND + "optim: {lr: ^^.inf}\n", "optim.lr", "must be a finite number"),
    "no lr": (_SOUND + "optim: {lr: ^^0}\n", "optim.lr", "must be greater than 0, not 0"),
    "null section": (_SOUND + "optim: ^^null\n", "optim", "must be a section of fields, not null"),
    "yes is text": (_SOUND + "evaluate: {every_steps: ^^yes}\n", "evaluate.every_steps", "not 'yes'"),
    "sexagesimal is text": (_SOUND + "seed: ^^1:30\n", "seed", "not '1:30'"),
    "optimizer": (_SOUND + "optim: {name: ^^adma}\n", "optim.name", "did you mean 'adam'?"),
    "strategy": (_SOUND + "strategy: ^^dpd\n", "strategy", "did you mean 'ddp'?"),
    "strategy nonsense": (_SOUND + "strategy: ^^nonsense\n", "strategy", "'plain', 'ddp', 'fsdp'"),
    "precision": (_SOUND + "precision: ^^fp16\n", "precision", "'fp32' or 'bf16'"),
    "micro size word": (_SOUND + "batch: {micro_size: ^^atuo}\n", "batch.micro_size", "a whole number or 'auto'"),
    "micro size zero": (_SOUND + "batch: {micro_size: ^^0}\n", "batch.micro_size", "must be at least 1, not 0"),
    "workers word": (_SOUND + "scaling: {workers: ^^many}\n", "scaling.workers", "must be a whole number or a section"),
    "workers zero": (_SOUND + "scaling: {workers: ^^0}\n", "scaling.workers", "must be at least 1, not 0"),
    "workers reversed": (
        _SOUND + "scaling: {workers: ^^{min: 3, max: 2}}\n",
        "scaling.workers",
        "max is 2, less than min, 3",
    ),
    "workers half": (_SOUND + "scaling: {workers: ^^{min: 3}}\n", "scaling.workers.max", "is missing"),
    "three betas": (_SOUND + "optim: {betas: ^^[0.9, 0.99, 0.999]}\n", "optim.betas", "not a list of 3"),
    "beta": (_SOUND + "optim: {betas: [0.9, ^^1.0]}\n", "optim.betas.1", "must be less than 1"),
    "both budgets": (
        _SOUND.replace("{steps", "^^{epochs: 1, steps"),
        "budget",
        "exactly one of steps and epochs, not both",
    ),
    "no budget": (_SOUND.replace("{steps: 10}", "^^{}"), "budget", "not neither"),
    "NUL": (_SOUND + 'storage: ^^"a\\0b"\n', "storage", "without NUL"),
    "channels": (_SOUND.replace("size: 28}}\nb", "size: 28, channels: ^^2}}\nb"), "data.image.channels", "1 or 3"),
    # Names.
    "model": (_SOUND.replace("lenet5", "^^lenet"), "model.name", "no model is called 'lenet'; did you mean 'lenet5'?"),
    "task": (_SOUND + "task: {name: ^^clasification}\n", "task.name", "did you mean 'classification'?"),
    "source": (_SOUND.replace("digits", "^^digts"), "data.source", "did you mean 'digits'?"),
    "augmentation": (
        _SOUND.replace("digits,", "digits, augment: [{name: ^^shfit}],"),
        "data.augment.0.name",
        "'shift'?",
    ),
    # Arguments against signatures.
    "unknown argument": (
        _SOUND.replace("{image_size", "{^^num_clases: 3, image_size"),
        "model.args.num_clases",
        "did you mean 'num_classes'?",
    ),
    "argument type": (
        _SOUND.replace("28}}\nd", "^^big}}\nd"),
        "model.args.image_size",
        "must be a whole number, not 'big'",
    ),
    "argument list": (
        _SOUND.replace("{image_size", "{hidden_dims: [1, ^^x], image_size"),
        "model.args.hidden_dims.1",
        "must be a whole number",
    ),
    "nested argument": (
        _SOUND.replace("lenet5, args: {image_size: 28}", "clip, args: {vision: {^^d_modle: 8}}").replace(
            "digits,", "emoji, text: {},"
        ),
        "model.args.vision.d_modle",
        "did you mean 'd_model'?",
    ),
    "task argument": (_SOUND + "task: {args: {^^smoothing: 0.1}}\n", "task.args.smoothing", "there is no such field"),
    "more samples than there are": (_SOUND.replace("digits,", "digits, limit: ^^2000,"), "data.limit", "has 1500"),
    "left out of nothing": (_SOUND + "evaluate: {split: ^^left-out}\n", "evaluate.split", "no split 'left-out'"),
    "sounds that nothing makes into pictures": (
        _HEAD + _HEARS + _BUDGET + "data: ^^{source: asterisk}\n",
        "data",
        "needs a section in data, such as `audio: {seconds: 2}`",
    ),
    "texts that nothing makes into tokens": (
        _HEAD + "model: {name: text_classifier, args: {num_classes: 4}}\n" + _BUDGET + "data: ^^{source: wordnet}\n",
        "data",
        "`text: {tokenizer: word}`",
    ),
    "pieces for words": (
        _WORDS + "data: {source: wordnet, text: {tokenizer: ^^bpe}}\n",
        "data.text.tokenizer",
        "is bpe, and task word-embedding counts on how tokenizer word numbers its tokens",
    ),
    "published words": (
        _WORDS.replace("word2vec", "glove") + "data: {source: ./pairs, text: {vocabulary: ^^minilm}}\n",
        "data.text.vocabulary",
        "task co-occurrence counts on how tokenizer word numbers its tokens, which a published vocabulary needn't",
    ),
    "no places for patches": (
        _LLAVA.replace("text: {", "text: {image_tokens: ^^0, "),
        "data.text.image_tokens",
        "is 0, and the model makes 16 patches of an image",
    ),
    "other places than patches": (
        _LLAVA.replace("text: {", "text: {image_tokens: ^^4, "),
        "data.text.image_tokens",
        "is 4, and the model makes 16 patches of an image",
    ),
    "places in a model of words": (
        _LLAVA.replace("llava, args: {vision: {image_size: 32, patch_size: 8}}", "llama").replace(
            "text: {", "text: {image_tokens: ^^16, "
        ),
        "data.text.image_tokens",
        "is 16, and model llama of task language-modeling reads no images between words",
    ),
    "longer targets than a model's": (
        _HEAD
        + "model: {name: transformer, args: {max_seq_len: ^^48}}\n"
        + "data: {source: libreoffice-en-fr, text: {target: target_text, target_len: 49}}\n"
        + _BUDGET,
        "model.args.max_seq_len",
        "is 48, less than data.text.target_len, 49",
    ),
    "texts beside queries": (
        _BLIP2.replace("40", "^^39"),
        "model.args.language.max_seq_len",
        "is 39, less than data.text.max_seq_len and 32 queries, 40",
    ),
    "bins": (
        _HEAD + _HEARS.replace("bins: 64", "bins: ^^40") + _BUDGET + "data: {source: asterisk, audio: {seconds: 1}}\n",
        "model.args.num_bins",
        "is 40, and data.audio makes 64 bins",
    ),
    "steps": (
        _HEAD
        + _HEARS.replace("cnn", "transformer").replace("bins: 64", "bins: 64, num_steps: ^^100")
        + _BUDGET
        + "data: {source: asterisk, audio: {seconds: 1}}\n",
        "model.args.num_steps",
        "is 100, and data.audio makes 101 steps",
    ),
    "steps of filter banks": (
        _HEAD
        + _HEARS.replace("cnn", "transformer").replace("bins: 64", "bins: 64, num_steps: ^^101")
        + _BUDGET
        + "data: {source: asterisk, audio: {seconds: 1, features: kaldi-fbank}}\n",
        "model.args.num_steps",
        "is 101, and data.audio makes 98 steps, one and one more a hop of 160 samples after the first window of 400",
    ),
    "no window of a filter bank": (
        _SOUND.replace("image: {size: 28}", "audio: ^^{seconds: 0.02, features: kaldi-fbank}"),
        "data.audio",
        "320 samples hold no window of 400; ask for more seconds",
    ),
    "coefficients of a spectrogram": (
        _SOUND.replace("image: {size: 28}", "audio: ^^{seconds: 1, coefficients: 9}"),
        "data.audio",
        "log-mel would ignore coefficients",
    ),
    "more coefficients than bands": (
        _SOUND.replace("image: {size: 28}", "audio: ^^{seconds: 1, features: mfcc, bins: 8}"),
        "data.audio",
        "8 bands have no 20 coefficients",
    ),
    "augmentation parameter": (
        _SOUND.replace("digits,", "digits, augment: [{name: shift, ^^max_pixel: 1, max_pixels: 2}],"),
        "data.augment.0.max_pixel",
        "did you mean 'max_pixels'?",
    ),
    "augmentation lacks": (
        _SOUND.replace("digits,", "digits, augment: [^^{name: shift}],"),
        "data.augment.0.max_pixels",
        "is missing",
    ),
    "probability": (
        _SOUND.replace("digits,", "digits, augment: [{name: flip, p: ^^2}],"),
        "data.augment.0.p",
        "in [0, 1]",
    ),
    # Fields against each other.
    "atoms": (_SOUND + "batch: {global_size: 60, micro_size: ^^7}\n", "batch.micro_size", "5 or 6 would"),
    "means": (
        _SOUND.replace("28}}\nb", "28, mean: ^^[0.1, 0.2]}}\nb"),
        "data.image.mean",
        "has 2 values and the image 1 channels",
    ),
    "plain workers": (_SOUND + "strategy: ^^plain\nscaling: {workers: 2}\n", "strategy", "plain is one worker"),
    "elastic zero": (
        _SOUND + "strategy: zero2\nscaling: {workers: ^^{min: 1, max: 2}}\n",
        "scaling.workers",
        "DeepSpeed fixes its number of workers",
    ),
    "exact fsdp": (
        _SOUND + "strategy: fsdp\nbatch: {reduce: ^^exact}\n",
        "batch.reduce",
        "needs strategy plain or ddp",
    ),
    "momentum of adam": (_SOUND + "optim: {momentum: ^^0.9}\n", "optim.momentum", "adam would ignore it"),
    "betas of sgd": (_SOUND + "optim: {name: sgd, betas: ^^[0.5, 0.9]}\n", "optim.betas", "sgd would ignore it"),
    "eps of sgd": (_SOUND + "optim: {name: sgd, eps: ^^1e-6}\n", "optim.eps", "sgd would ignore it"),
    "alpha of adadelta": (
        _SOUND + "optim: {name: adadelta, alpha: ^^0.5}\n",
        "optim.alpha",
        "adadelta would ignore it; it is read by rmsprop",
    ),
    "momentum without momentum": (_SOUND + "optim: ^^{name: momentum}\n", "optim.momentum", "momentum needs it; 0.9"),
    "muon's parts": (
        _SOUND + "optim: {name: ^^muon, momentum: 0.9}\nstrategy: fsdp\nscaling: {workers: 2}\n",
        "optim.name",
        "muon looks at each parameter as a whole, which fsdp splits; use plain or ddp",
    ),
    "lora of nothing": (
        _SOUND + "lora: ^^{targets: ['*']}\n",
        "lora",
        "adapts a model that has learnt already; init_from names none",
    ),
    "lora and freeze": (
        _SOUND + "init_from: {'*': other}\nlora: {targets: ['*']}\nfreeze: ^^['conv1.*']\n",
        "freeze",
        "lora trains nothing but its own matrices",
    ),
    "hardly any gpu": (
        _SOUND + "scaling: {resources: {gpu: ^^0.00001}}\n",
        "scaling.resources.gpu",
        "Ray counts GPUs in ten thousandths",
    ),
    "two gpus a worker": (
        _SOUND + "scaling: {resources: {gpu: ^^2}}\n",
        "scaling.resources.gpu",
        "must be at most 1, not 2",
    ),
    "final factor": (
        _SOUND + "optim: {schedule: {final_factor: ^^0.1}}\n",
        "optim.schedule.final_factor",
        "constant schedule would ignore it",
    ),
    "warmup": (
        _SOUND + "optim: {schedule: {warmup_steps: ^^11}}\n",
        "optim.schedule.warmup_steps",
        "don't end before the run, which has 10 steps",
    ),
    "warmup of epochs": (
        _SOUND.replace("steps: 10", "epochs: 1") + "optim: {schedule: {warmup_steps: ^^24}}\n",
        "optim.schedule.warmup_steps",
        "has 24 steps",
    ),
    "phases of one": (_SOUND + "optim: {phases: ^^{main: {lr: 1}}}\n", "optim.phases", "has a single phase"),
    "phases missing": (f"^^{_GAN}", "optim.phases", "missing: discriminator, generator"),
    "phase missing": (_GAN + "optim: {phases: ^^{generator: {lr: 1}}}\n", "optim.phases", "missing: discriminator"),
    "phase unknown": (
        _GAN + "optim: {phases: {generator: {}, discriminator: {}, genrator: ^^{}}}\n",
        "optim.phases.genrator",
        "did you mean 'generator'?",
    ),
    "phase's field": (
        _GAN + "optim: {phases: {generator: {lr: ^^-1}, discriminator: {}}}\n",
        "optim.phases.generator.lr",
        "must be greater than 0",
    ),
    # Against the data.
    "classes": (
        _SOUND.replace("{image_size", "{num_classes: ^^12, image_size"),
        "model.args.num_classes",
        "is 12, and digits has 10 classes",
    ),
    "positive classes": (
        _SOUND.replace("{image_size", "{num_classes: ^^10, image_size").replace("digits,", "digits, positive: '3',"),
        "model.args.num_classes",
        "data.positive makes 2 classes",
    ),
    "positive": (
        _SOUND.replace("digits,", "digits, positive: ^^three,"),
        "data.positive",
        "digits has no class 'three'",
    ),
    "prompt without its place": (
        _SOUND.replace("digits,", "digits, text: {prompt: ^^a photo},"),
        "data.text.prompt",
        "must have {label} where the class goes",
    ),
    "prompt for texts": (
        _SOUND.replace("digits,", "emoji, text: {prompt: ^^'a {label}'},"),
        "data.text.prompt",
        "emoji has texts of its own",
    ),
    "no prompt": (
        _HEAD
        + "model: {name: latent_diffusion}\ndata: {source: ^^digits, image: {size: 512, channels: 3}}\n"
        + _BUDGET,
        "data.source",
        "reads tokens; digits has image, label (data.text.prompt makes texts of classes)",
    ),
    "image size": (_SOUND.replace("28}}\nd", "^^32}}\nd"), "model.args.image_size", "is 32, and data.image.size is 28"),
    "colour": (
        _SOUND.replace("{image_size", "{in_channels: ^^3, image_size"),
        "model.args.in_channels",
        "is 3, and data.image.channels is 1",
    ),
    "catalog size": (
        _SOUND.replace(", image: {size: 28}", "").replace("28", "^^28"),
        "model.args.image_size",
        "digits has images of 8 pixels",
    ),
    "table for images": (
        _HEAD + "model: {name: vae}\ndata: {source: ^^iris}\n" + _BUDGET,
        "data.source",
        "task reconstruction reads image; iris has features, label",
    ),
    "width": (
        _HEAD + "model: {name: mlp, args: {in_features: ^^64, num_classes: 3}}\ndata: {source: iris}\n" + _BUDGET,
        "model.args.in_features",
        "is 64, and iris has 4 columns",
    ),
    "classes to make": (
        _HEAD
        + "model: {name: ddpm, args: {image_size: 8, in_channels: 1, num_classes: ^^9}}\n"
        + "data: {source: digits, image: {size: 8}}\n"
        + _BUDGET,
        "model.args.num_classes",
        "is 9, and digits has 10 classes",
    ),
    "mixed for distances": (
        _HEAD
        + "model: {name: similarity, args: {in_features: 64}}\n"
        + "data: {source: digits, augment: [{name: ^^mixup}]}\n"
        + _BUDGET,
        "data.augment.0.name",
        "mixup mixes labels, of which task embedding reads none; classification does",
    ),
    "stem": (
        _HEAD + "model: {name: temporal_segment, args: {stem: ^^smal}}\ndata: {source: wesnoth}\n" + _BUDGET,
        "model.args.stem",
        "'paper' or 'small'",
    ),
    "format of catalog": (_SOUND.replace("digits,", "digits, format: ^^csv,"), "data.format", "leave it at auto"),
    "split": (_SOUND + "evaluate: {split: ^^tset}\n", "evaluate.split", "did you mean 'test'?"),
    # Other kinds.
    "no models": (_SERVE + "models: ^^[]\n", "models", "at least 1 values"),
    "model reference": (_SERVE + "models: [{model: ^^a/b}]\n", "models.0.model", "name, name@3 or name@alias"),
    "port": (_SERVE + "models: [{model: a}]\nport: ^^70000\n", "port", "at most 65535"),
    "search path": (_TUNE + "search: {^^optim.lrr: {choice: [1]}}\n", "search.optim.lrr", "did you mean 'lr'?"),
    "search value": (
        _TUNE + "search: {^^optim.lr: {choice: [0.1, x]}}\n",
        "search.optim.lr",
        "must be a number, not 'x'",
    ),
    "search nothing": (_TUNE + "search: {optim.lr: ^^{}}\n", "search.optim.lr", "exactly one of choice"),
    "search reversed": (
        _TUNE + "search: {optim.lr: ^^{uniform: [1, 0.5]}}\n",
        "search.optim.lr",
        "smaller to the larger",
    ),
    "grid of ranges": (
        _TUNE + "search: {optim.lr: {uniform: [0.1, 1]}}\nalgorithm: ^^grid\n",
        "algorithm",
        "each search needs `choice`",
    ),
    "search by no metric": (
        _TUNE + "search: {optim.lr: {choice: [1]}}\nmetric: ^^acuracy\n",
        "metric",
        "did you mean 'accuracy'?",
    ),
    "nothing to stop by": (
        _TUNE + "search: {optim.lr: {choice: [1]}}\nscheduler: ^^asha\n",
        "scheduler",
        "give train.evaluate.every_steps",
    ),
    "stopping by what comes at the end": (
        _TUNE.replace("lenet5, args: {image_size: 28}", "vae, args: {image_size: 28}").replace("28}}\n  b", _UNIT)
        + "  evaluate: {every_steps: 5, fidelity: {features: lenet5}}\n"
        + "search: {optim.lr: {choice: [1]}}\nscheduler: asha\nmetric: ^^frechet_distance\n",
        "metric",
        "asha compares evaluations on the way, and frechet_distance is measured at the end only",
    ),
    "grace of nobody": (
        _TUNE + "search: {optim.lr: {choice: [1]}}\ngrace_steps: ^^7\n",
        "grace_steps",
        "only asha does",
    ),
    "search of no argument": (
        _TUNE + "search: {^^model.args.fooo: {choice: [1]}}\n",
        "search.model.args.fooo",
        "there is no such field",
    ),
    "search of no model": (
        _TUNE + "search: {^^model.name: {choice: [lenet5, lenet6]}}\n",
        "search.model.name",
        "did you mean 'lenet5'?",
    ),
    "a trial that can't be": (
        _TUNE + "search: {^^batch.micro_size: {choice: [7]}}\n",
        "search.batch.micro_size",
        "7 doesn't divide global_size",
    ),
    "half a range": (
        _TUNE + "search: {optim.lr: {uniform: ^^[0.1]}}\n",
        "search.optim.lr.uniform.1",
        "is missing",
    ),
    # Values that are missing, or null, within what is there.
    "half a pair": (_SOUND + "optim: {betas: ^^[0.9]}\n", "optim.betas.1", "is missing"),
    "null for a choice": (
        _SOUND.replace("size: 28}}\n" + _BUDGET, "size: 28}, feed: ^^null}\n" + _BUDGET),
        "data.feed",
        "must be 'auto', 'resident' or 'stream', not null",
    ),
    # What nobody would read.
    "section of other data": (
        _SOUND.replace("size: 28}}\n" + _BUDGET, "size: 28}, audio: ^^{seconds: 2}}\n" + _BUDGET),
        "data.audio",
        "digits is image",
    ),
    "columns of the catalog": (
        _SOUND.replace("size: 28}}\n" + _BUDGET, "size: 28}, columns: ^^{image: pixels}}\n" + _BUDGET),
        "data.columns",
        "names columns of data of your own",
    ),
    "stream without one": (
        _SOUND.replace("size: 28}}\n" + _BUDGET, "size: 28}, feed: resident, stream: ^^{actors: 3}}\n" + _BUDGET),
        "data.stream",
        "a resident feed has no stream",
    ),
    "resizing what is fixed": (
        _SOUND + "scaling: {resize_every_s: ^^5}\n",
        "scaling.resize_every_s",
        "is never resized",
    ),
    "storage at a uri": (_SOUND + "storage: ^^s3://bucket/runs\n", "storage", "mount it"),
    "inner train": (
        _TUNE.replace("lenet5", "^^lenet") + "search: {optim.lr: {choice: [1]}}\n",
        "train.model.name",
        "did you mean 'lenet5'?",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_spec_is_refused_where_it_is_wrong(case: str, tmp_path: Path) -> None:
    marked, path, message = WRONG[case]
    before = marked[: marked.index("^^")]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    file = tmp_path / "spec.yaml"
    file.write_text(marked.replace("^^", ""), encoding="utf-8")

    with pytest.raises(SpecError) as caught:
        load(file)

    assert caught.value.exit_code == 2
    [problem] = caught.value.problems
    assert message in problem.message
    assert (problem.path, problem.file, problem.line, problem.column) == (path, str(file), line, column)


def test_sound_specs_load(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    phases = "optim: {phases: {generator: {}, discriminator: {}}}\n"
    for text in (
        _SOUND,
        _GAN + phases,
        _WORDS + "data: {source: wordnet, text: {tokenizer: word}}\n",
        _LLAVA.replace("text: {", "text: {image_tokens: 16, "),
        _BLIP2,
        _TUNE + "search: {optim.lr: {choice: [1]}}\n",
        _SERVE + "models: [{model: a}]\n",
    ):
        file.write_text(text, encoding="utf-8")
        assert load(file).kind in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"- 1\n", "is not a section of fields"),
        (b"kind: train\nname: \xff\n", "isn't UTF-8"),
        (b"a: \x00\n", "isn't YAML"),
        (b"a: [" + b"[" * 60 + b"]" * 60 + b"]\n", "nested more than 50 levels deep"),
        (b"#" * (1 << 20) + b"\n", "a spec has at most 1048576"),
        (b"a: [" + b"1," * 100_001 + b"]\n", "more than 100000 values"),
    ],
)
def test_hostile_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_bytes(content)
    with pytest.raises(SpecError, match=message):
        load(file)


def test_alias_bomb_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    file = tmp_path / "spec.yaml"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SpecError, match="the alias"):
        load(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No such file"):
        load(tmp_path / "none.yaml")


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    text = _SOUND.replace("lenet5", "lenet").replace("digits", "digts") + "optim: {lr: -1}\nseed: 1\nseed: 2\nfoo: 1\n"
    file.write_text(text + "batch: {global_size: 60, micro_size: 7}\n", encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load(file, ["optim.eps=0", "bar=2"])
    found = [(problem.path, problem.line) for problem in caught.value.problems]
    assert found == [
        ("model.name", 3),
        ("data.source", 4),
        ("optim.lr", 6),
        ("", 8),
        ("foo", 9),
        ("batch.micro_size", 10),
        ("bar", 0),
        ("optim.eps", 0),
    ]
