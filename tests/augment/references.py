"""What each augmentation is measured against: a library's operation, or its definition written out sample by sample.

A case gives the largest difference that it found, in its unit. References take the sample's own draws of parameters and
nothing else of ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.signal
import scipy.stats
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage
from scipy.spatial.transform import Rotation

from dlsvc.augment import audio, colour, geometry, mix, pixels, randaugment, spectrogram, text
from dlsvc.augment import keys as random
from dlsvc.augment.pipeline import Pipeline
from dlsvc.augment.ranges import between

SIZE = 40
MIDDLE = (SIZE - 1) / 2
LUMA = np.asarray([0.299, 0.587, 0.114])
LEVELS, SHARE, SOUND, TEXTS = "levels of 255", "share", "of full scale", "texts of 200"
# Libraries without types give Any.
Pixels = Any


@dataclass(frozen=True)
class Case:
    by: str
    measure: Callable[[], float]
    limit: float
    unit: str = LEVELS


def keys_of(count: int) -> random.Keys:
    ids = np.arange(count, dtype=np.int64)
    return random.sample_keys(1, np.zeros_like(ids), ids)


def own(count: int) -> random.Keys:
    """Of the first operation of a list."""
    return random.derive(keys_of(count), "augment/0")


def pictures(count: int = 6, size: int = SIZE) -> Pixels:
    """Smooth colour images, so that a shift by half a pixel is seen and an edge does not drown it."""
    noise = np.random.default_rng(0).normal(size=(count, size, size, 3))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 0))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (smooth * 255).astype(np.uint8)


def image_case(
    by: str, operation: Any, each: Callable[[Pixels, int], Pixels], limit: float, border: int = 0, size: int = SIZE
) -> Case:
    """`each(image, number)` is the reference; `border` pixels are left out, where references fill with black."""

    def measure() -> float:
        images = pictures(size=size)
        found = Pipeline((operation,)).apply({"image": images}, keys_of(len(images)))["image"].astype(np.float64)
        wanted = np.stack([np.asarray(each(image, number), np.float64) for number, image in enumerate(images)])
        inner = slice(border, size - border)
        return float(np.abs(found - wanted)[:, inner, inner].max())

    return Case(by, measure, limit)


def drawn(stream: str, low: float, high: float, count: int = 6) -> list[float]:
    found: list[float] = between(own(count), stream, low, high).tolist()
    return found


def enhanced(enhancer: Any, stream: str, low: float, high: float) -> Callable[[Pixels, int], Pixels]:
    factors = drawn(stream, low, high)
    return lambda image, n: np.asarray(enhancer(Image.fromarray(image)).enhance(factors[n]))


def affine(image: Pixels, a: float, b: float, c: float, d: float, move: Sequence[float] = (0, 0)) -> Pixels:
    """scipy's map: output (x, y), from the centre, is read at ((a, b), (c, d)) times it, plus `move`."""
    matrix = np.asarray([[d, c], [b, a]])  # scipy counts (y, x)
    start = np.asarray([MIDDLE + move[1], MIDDLE + move[0]]) - matrix @ [MIDDLE, MIDDLE]
    planes = [
        ndimage.affine_transform(plane.astype(np.float64), matrix, start, order=1, mode="nearest")
        for plane in np.moveaxis(image, -1, 0)
    ]
    return np.stack(planes, axis=-1)


def rotated(image: Pixels, n: int) -> Pixels:
    turned = Image.fromarray(image).rotate(drawn("rotation/angle", -20, 20)[n], Image.Resampling.BILINEAR)
    return np.asarray(turned)


def scaled(image: Pixels, n: int) -> Pixels:
    step = 1 / drawn("scale/factor", 0.7, 1.5)[n]
    return affine(image, step, 0, 0, step)


def sheared(image: Pixels, n: int) -> Pixels:
    x, y = (np.tan(np.radians(drawn(f"shear/{axis}", -15, 15)[n])) for axis in "xy")
    return affine(image, 1, x, y, 1)


def translated(image: Pixels, n: int) -> Pixels:
    x, y = (drawn(f"translation/{axis}", -0.2, 0.2)[n] * SIZE for axis in "xy")
    return ndimage.shift(image.astype(np.float64), (y, x, 0), order=1, mode="nearest")


def shifted(image: Pixels, n: int) -> Pixels:
    y, x = random.integers(random.derive(own(6), "shift/offset"), -3, 3, (2,))[n]
    return ndimage.shift(image, (y, x, 0), order=0, mode="nearest")


def part_of(image: Pixels, left: float, top: float, width: float, height: float) -> Pixels:
    """torch's grid sampling, whose grid covers the part; all in shares of the sides."""
    theta = torch.tensor([[[width, 0, 2 * left + width - 1], [0, height, 2 * top + height - 1]]], dtype=torch.float64)
    planes = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    grid = torch.nn.functional.affine_grid(theta, list(planes.shape), align_corners=False)
    found = torch.nn.functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    return np.asarray(found[0].permute(1, 2, 0))


def placed(name: str, n: int, width: float, height: float) -> tuple[float, float, float, float]:
    x, y = (float(random.uniform(random.derive(own(6), f"{name}/{axis}"))[n]) for axis in "xy")
    return x * (1 - width), y * (1 - height), width, height


def cropped(image: Pixels, n: int) -> Pixels:
    side = drawn("crop/side", 0.5, 1)[n]
    return part_of(image, *placed("crop", n, side, side))


def resized_crop(image: Pixels, n: int) -> Pixels:
    area = drawn("random-resized-crop/area", 0.2, 1)[n]
    ratio = np.exp(drawn("random-resized-crop/ratio", -np.log(1.5), np.log(1.5))[n])
    width, height = min(np.sqrt(area * ratio), 1), min(np.sqrt(area / ratio), 1)
    return part_of(image, *placed("random-resized-crop", n, width, height))


def hued(image: Pixels, n: int) -> Pixels:
    turn = Rotation.from_rotvec(np.radians(drawn("hue/angle", -60, 60)[n]) * np.ones(3) / np.sqrt(3))
    return np.clip(turn.apply(image.reshape(-1, 3).astype(np.float64)).reshape(image.shape), 0, 255)


def jittered(image: Pixels, n: int) -> Pixels:
    """torchvision's adjust_brightness, _contrast and _saturation, on floats and cut once."""
    bright, contrast, saturation = (
        drawn(f"jitter/{name}", 0.7, 1.3)[n] for name in ("brightness", "contrast", "saturation")
    )
    found = image.astype(np.float64) * bright
    found = contrast * found + (1 - contrast) * (found @ LUMA).mean()
    found = saturation * found + (1 - saturation) * (found @ LUMA)[..., None]
    return np.clip(found, 0, 255)


def blurred(image: Pixels, n: int) -> Pixels:
    sigma = drawn("blur/sigma", 0, 2)[n]
    return ndimage.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), radius=6, mode="nearest")


def posterized(image: Pixels, n: int) -> Pixels:
    bits = int(random.integers(random.derive(own(6), "posterize/bits"), 4, 8)[n])
    return np.asarray(ImageOps.posterize(Image.fromarray(image), bits))


def solarized(image: Pixels, n: int) -> Pixels:
    limit = int(np.ceil(drawn("solarize/threshold", 100, 255)[n]))
    return np.asarray(ImageOps.solarize(Image.fromarray(image), limit))


def erased(image: Pixels, n: int) -> Pixels:
    """Zhong et al. 2020, algorithm 1."""
    area, limit = drawn("erasing/area", 0.05, 0.3)[n], np.log(2.0)
    ratio = np.exp(drawn("erasing/ratio", -limit, limit)[n])
    high, wide = (round(float(np.sqrt(share)) * SIZE) for share in (area * ratio, area / ratio))
    y, x = (float(random.uniform(random.derive(own(6), f"erasing/{axis}"))[n]) for axis in "yx")
    top, left = int(y * (SIZE - high + 1)), int(x * (SIZE - wide + 1))
    found = image.copy()
    found[top : top + high, left : left + wide] = 0
    return found


def rand_augmented(image: Pixels, n: int) -> Pixels:
    """One operation a sample, at three tenths of the ranges, by Pillow."""
    turn = random.derive(own(6), "randaugment/0")
    choice = int(random.integers(random.derive(turn, "choice"), 0, 9)[n])

    def value(stream: str, low: float, high: float) -> float:
        return float(between(turn, stream, low, high)[n])

    whole, level = Image.fromarray(image), 0.3
    low, high = 1 - 0.9 * level, 1 + 0.9 * level
    enhancers = {
        4: (ImageEnhance.Brightness, "brightness/factor", low, high),
        5: (ImageEnhance.Contrast, "contrast/factor", low, high),
        6: (ImageEnhance.Color, "saturation/factor", low, high),
    }
    if choice in enhancers:
        enhancer, stream, least, most = enhancers[choice]
        return np.asarray(enhancer(whole).enhance(value(stream, least, most)))
    if choice == 1:
        return np.asarray(whole.rotate(value("rotation/angle", -9, 9), Image.Resampling.BILINEAR))
    if choice == 2:
        share = 0.33 * level
        moves = [value(f"translation/{axis}", -share, share) * SIZE for axis in "yx"]
        return ndimage.shift(image.astype(np.float64), (*moves, 0), order=1, mode="nearest")
    if choice == 3:
        x, y = (np.tan(np.radians(value(f"shear/{axis}", -16.7 * level, 16.7 * level))) for axis in "xy")
        return affine(image, 1, x, y, 1)
    if choice == 7:
        return np.asarray(ImageEnhance.Sharpness(whole).enhance(1 + value("sharpen/amount", 0, 0.9 * level)))
    if choice == 8:
        bits = int(random.integers(random.derive(turn, "posterize/bits"), 8 - round(4 * level), 8)[n])
        return np.asarray(ImageOps.posterize(whole, bits))
    if choice == 9:
        return np.asarray(ImageOps.solarize(whole, int(np.ceil(value("solarize/threshold", 255 * (1 - level), 255)))))
    return image


def noise_distance() -> float:
    """Kolmogorov and Smirnov's, of the noise over its own deviation, to the normal distribution."""
    grey = np.full((16, 60, 60, 1), 128, np.float32)
    found = pixels.GaussianNoise(0.1).apply(grey, own(16)) - 128
    levels = 255 * between(own(16), "gaussian-noise/std", 0, 0.1)
    return float(scipy.stats.kstest((found / levels[:, None, None, None]).ravel(), "norm").statistic)


def salt_distance() -> float:
    """Each image's share of white, and of black, pixels against half its drawn share."""
    grey = np.full((16, 200, 200, 1), 128, np.float32)
    found = pixels.SaltAndPepper(0.2).apply(grey, own(16))
    half = between(own(16), "salt-and-pepper/share", 0, 0.2) / 2
    return max(float(np.abs((found == value).mean((1, 2, 3)) - half).max()) for value in (0, 255))


def pairs() -> tuple[NDArray[np.float32], ...]:
    draws = np.random.default_rng(0)
    one, other = draws.normal(size=(2, 200, 3, 16, 16)).astype(np.float32)
    classes, others = np.eye(5, dtype=np.float32)[draws.integers(0, 5, (2, 200))]
    return one, classes, other, others


def mixup_distance() -> float:
    one, classes, other, others = pairs()
    images, labels = mix.Mixup(0.4).mix(one, classes, other, others, own(200))
    share = scipy.stats.beta.ppf(random.uniform(random.derive(own(200), "mixup/share")), 0.4, 0.4)
    apart = 0.0
    for n, part in enumerate(share):
        apart = max(apart, np.abs(part * one[n] + (1 - part) * other[n] - images[n]).max())
        apart = max(apart, np.abs(part * classes[n] + (1 - part) * others[n] - labels[n]).max())
    return float(apart)


def cutmix_distance() -> float:
    """Yun et al. 2019: a patch of the share's root of each side about a uniform centre, cut at the edges."""
    one, classes, other, others = pairs()
    images, labels = mix.CutMix(1.0).mix(one, classes, other, others, own(200))
    words = {name: random.uniform(random.derive(own(200), f"cutmix/{name}")).tolist() for name in ("share", "x", "y")}
    apart = 0.0
    for n in range(200):
        half = 16 * np.sqrt(1 - words["share"][n]) / 2  # Beta(1, 1) is uniform
        (y1, y2), (x1, x2) = (
            (max(0, round(16 * words[axis][n] - half)), min(16, round(16 * words[axis][n] + half))) for axis in "yx"
        )
        wanted = one[n].copy()
        wanted[:, y1:y2, x1:x2] = other[n][:, y1:y2, x1:x2]
        kept = 1 - (y2 - y1) * (x2 - x1) / 256
        apart = max(apart, np.abs(wanted - images[n]).max())
        apart = max(apart, np.abs(kept * classes[n] + (1 - kept) * others[n] - labels[n]).max())
    return float(apart)


def sounds(count: int = 5, length: int = 6000) -> NDArray[np.float32]:
    """Sweeps with an overtone and a little noise, at 16 kHz."""
    time = np.arange(length) / 16000
    draw = np.random.default_rng(0).standard_normal((count, length))
    low = 200 + 60 * np.arange(count)[:, None]
    voice = 0.3 * np.sin(2 * np.pi * low * time * (1 + 0.2 * time)) + 0.1 * np.sin(2 * np.pi * 3000 * time)
    return (voice + 0.02 * draw).astype(np.float32)


def fitted(sound: NDArray[Any], length: int) -> NDArray[Any]:
    return np.pad(sound[:length], (0, max(0, length - len(sound))))


def plain_stretch(sound: NDArray[Any], rate: float) -> NDArray[np.float64]:
    """A phase vocoder with angles, in float64, frame by frame: the textbook form (Flanagan and Golden, 1966)."""
    window, hop = scipy.signal.get_window("hann", 2048), 512
    padded = np.pad(sound.astype(np.float64), 1024)
    frames = [np.fft.rfft(window * padded[at : at + 2048]) for at in range(0, len(sound) + 1, hop)]
    frames += [np.zeros(1025, complex)] * 2
    phase, found, weight = np.angle(frames[0]), np.zeros(8 * len(padded)), np.zeros(8 * len(padded))
    for number, place in enumerate(np.arange(0, len(frames) - 2, rate)):
        early, late = frames[int(place)], frames[int(place) + 1]
        loud = (1 - place % 1) * np.abs(early) + place % 1 * np.abs(late)
        found[number * hop :][:2048] += window * np.fft.irfft(loud * np.exp(1j * phase))
        weight[number * hop :][:2048] += window**2
        phase = phase + np.angle(late) - np.angle(early)
    found[weight > 1e-30] /= weight[weight > 1e-30]
    return found[1024:][: round(len(sound) / rate)]


def sound_case(by: str, operation: Any, each: Callable[[Any, float], Any], draw: Sequence[Any], limit: float) -> Case:
    """`each(sound, value)` is the reference at the sample's own value; `draw`: its stream, least and most."""

    def measure() -> float:
        clips = sounds()
        found = operation.apply_audio(clips, own(5))
        values = between(own(5), *draw).tolist()
        wanted = np.stack([np.clip(each(clip, value), -1, 1) for clip, value in zip(clips, values, strict=True)])
        return float(np.abs(found - wanted).max())

    return Case(by, measure, limit, SOUND)


def pitched(sound: NDArray[Any], semitones: float) -> NDArray[Any]:
    rate = 2.0 ** (-semitones / 12)
    longer = plain_stretch(sound, rate)
    return fitted(scipy.signal.resample(longer, int(np.ceil(len(longer) * rate))), len(sound))


def noise_power_distance() -> float:
    """Of the noise that was added: its ratio to the sound against the drawn one, in decibels."""
    clips = sounds(8, 60000)
    added = audio.Noise(10, 40, p=1).apply_audio(clips, own(8)) - clips
    ratio = 10 * np.log10(np.square(clips).mean(1) / np.square(added).mean(1))
    return float(np.abs(ratio - between(own(8), "audio-noise/db", 10, 40)).max())


def mask_distance(operation: Any, name: str, axis: int) -> float:
    """Park et al. 2019, section 2: a width below the largest, a start where it fits, the mean there."""
    spectra = np.random.default_rng(0).normal(size=(40, 1, 24, 50)).astype(np.float32)
    found = operation.apply_spectrogram(spectra, own(40))
    words = random.uniform(random.derive(own(40), f"{name}/spans"), (2, 2)).tolist()
    apart, size = 0.0, spectra.shape[axis]
    for one, changed, spans in zip(spectra, found, words, strict=True):
        wanted = np.moveaxis(one.copy(), axis, 0)
        for wide, at in spans:
            width = int(wide * 9)
            start = int(at * (size - width + 1))
            wanted[start : start + width] = one.mean(dtype=np.float64)
        apart = max(apart, float(np.abs(np.moveaxis(wanted, 0, axis) - changed).max()))
    return apart


LEXICON = {"quick": ("fast", "speedy"), "dog": ("hound",), "fox": ("reynard",), "brown": ("tan", "umber", "sepia")}
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
CALLS = 200


def text_case(by: str, operation: Any, is_right: Callable[[list[str]], bool]) -> Case:
    """How many texts break the definition."""

    def measure() -> float:
        found = operation.with_resources({"lexicon": LEXICON}).apply_text([" ".join(WORDS)] * CALLS, own(CALLS))
        return float(sum(not is_right(one.split()) for one in found))

    return Case(by, measure, 0, TEXTS)


def is_replaced(words: list[str]) -> bool:
    changed = [(old, new) for old, new in zip(WORDS, words, strict=True) if old != new]
    return len(changed) == 2 and all(new in LEXICON.get(old, ()) for old, new in changed)


def is_inserted(words: list[str]) -> bool:
    synonyms = {other for others in LEXICON.values() for other in others}
    return len(words) == len(WORDS) + 2 and [word for word in words if word not in synonyms] == WORDS


def is_deleted(words: list[str]) -> bool:
    left = iter(WORDS)
    return 0 < len(words) <= len(WORDS) and all(word in left for word in words)


def is_swapped(words: list[str]) -> bool:
    apart = sum(old != new for old, new in zip(WORDS, words, strict=True))
    return sorted(words) == sorted(WORDS) and 0 <= apart <= 4


def is_told(words: list[str]) -> bool:
    told = words[: len(words) - len(WORDS)]
    return words[len(told) :] == WORDS and Counter(told) <= Counter(WORDS)


def model_case(by: str, operation: Any, wanted: Callable[[str], str]) -> Case:
    """With models that say what they were asked, which stand for published ones."""

    def measure() -> float:
        given = [f"text {n}" for n in range(CALLS)]
        asked = operation.with_resources({"predict": lambda model, texts, *_: [f"{model}({one})" for one in texts]})
        found = asked.apply_text(given, own(CALLS))
        return float(sum(one != wanted(old) for old, one in zip(given, found, strict=True)))

    return Case(by, measure, 0, TEXTS)


CASES: dict[str, Case] = {
    "brightness": image_case(
        "Pillow, ImageEnhance.Brightness",
        colour.Brightness(0.5, 1.5),
        enhanced(ImageEnhance.Brightness, "brightness/factor", 0.5, 1.5),
        1,
    ),
    "contrast": image_case(
        "Pillow, ImageEnhance.Contrast",
        colour.Contrast(0.5, 1.5),
        enhanced(ImageEnhance.Contrast, "contrast/factor", 0.5, 1.5),
        1.5,
    ),
    "saturation": image_case(
        "Pillow, ImageEnhance.Color",
        colour.Saturation(0.0, 2.0),
        enhanced(ImageEnhance.Color, "saturation/factor", 0, 2),
        1.5,
    ),
    "hue": image_case("scipy, Rotation about grey", colour.Hue(60), hued, 0.51),
    "jitter": image_case(
        "torchvision's adjust_* in floats, cut once", colour.ColourJitter(0.3, 0.3, 0.3), jittered, 0.51
    ),
    "shift": image_case("scipy, ndimage.shift, order 0", geometry.Shift(3), shifted, 0),
    "flip": image_case("numpy, reversed", geometry.HorizontalFlip(1.0), lambda image, n: image[:, ::-1], 0),
    "vertical-flip": image_case("numpy, reversed", geometry.VerticalFlip(1.0), lambda image, n: image[::-1], 0),
    "rotation": image_case("Pillow, rotate, bilinear, inside", geometry.Rotation(20), rotated, 1, border=10),
    "scale": image_case("scipy, affine_transform, order 1", geometry.Scale(0.7, 1.5), scaled, 0.51),
    "translation": image_case("scipy, ndimage.shift, order 1", geometry.Translation(0.2), translated, 0.51),
    "shear": image_case("scipy, affine_transform, order 1", geometry.Shear(15), sheared, 0.51),
    "crop": image_case("torch, grid_sample, bilinear", geometry.Crop(0.5), cropped, 0.51),
    "random-resized-crop": image_case(
        "torch, grid_sample, bilinear", geometry.RandomResizedCrop(0.2, max_ratio=1.5), resized_crop, 0.51
    ),
    "sharpen": image_case(
        "Pillow, ImageEnhance.Sharpness, inside",
        pixels.Sharpen(2.0, p=1.0),
        lambda image, n: np.asarray(
            ImageEnhance.Sharpness(Image.fromarray(image)).enhance(1 + drawn("sharpen/amount", 0, 2)[n])
        ),
        2,
        border=1,
    ),
    "blur": image_case("scipy, gaussian_filter", pixels.Blur(2.0, p=1.0), blurred, 0.51),
    "posterize": image_case("Pillow, ImageOps.posterize", pixels.Posterize(4, p=1.0), posterized, 0),
    "solarize": image_case("Pillow, ImageOps.solarize", pixels.Solarize(100, p=1.0), solarized, 0),
    "erasing": image_case("Zhong et al. 2020, algorithm 1", pixels.RandomErasing(0.05, 0.3, 2.0, p=1.0), erased, 0),
    "randaugment": image_case(
        "Pillow and scipy, the operation drawn", randaugment.RandAugment(1, 3), rand_augmented, 2, border=6
    ),
    "gaussian-noise": Case("scipy, the normal distribution", noise_distance, 0.01, "Kolmogorov-Smirnov"),
    "salt-and-pepper": Case("the drawn share of white and black", salt_distance, 0.005, SHARE),
    "mixup": Case("Zhang et al. 2018, with scipy's Beta", mixup_distance, 2e-6, SHARE),
    "cutmix": Case("Yun et al. 2019, patch by patch", cutmix_distance, 1e-6, SHARE),
    "audio-noise": Case("the drawn ratio of powers", noise_power_distance, 0.15, "dB"),
    "time-stretch": sound_case(
        "the textbook's vocoder in float64",
        audio.TimeStretch(0.8, 1.25, p=1),
        lambda sound, rate: fitted(plain_stretch(sound, rate), len(sound)),
        ("time-stretch/rate", 0.8, 1.25),
        1e-5,
    ),
    "pitch-shift": sound_case(
        "the same, and scipy.signal.resample",
        audio.PitchShift(-4, 4, p=1),
        pitched,
        ("pitch-shift/semitones", -4, 4),
        1e-5,
    ),
    "time-shift": sound_case(
        "numpy.roll",
        audio.TimeShift(p=1),
        lambda sound, share: np.roll(sound, round(share * len(sound))),
        ("time-shift/share", -0.5, 0.5),
        0,
    ),
    "volume": sound_case(
        "its definition in float64",
        audio.Volume(p=1),
        lambda sound, decibels: sound.astype(np.float64) * 10 ** (decibels / 20),
        ("volume/db", -12, 12),
        1e-6,
    ),
    "time-mask": Case(
        "Park et al. 2019, span by span",
        lambda: mask_distance(spectrogram.TimeMask(8, count=2), "time-mask", -1),
        1e-6,
        "decibels",
    ),
    "frequency-mask": Case(
        "Park et al. 2019, span by span",
        lambda: mask_distance(spectrogram.FrequencyMask(8, count=2), "frequency-mask", -2),
        1e-6,
        "decibels",
    ),
    "synonyms": text_case("Wei and Zou 2019, replacement", text.SynonymReplacement(0.23), is_replaced),
    "insertion": text_case("Wei and Zou 2019, insertion", text.RandomInsertion(0.23), is_inserted),
    "deletion": text_case("Wei and Zou 2019, deletion", text.RandomDeletion(0.3), is_deleted),
    "shuffle": text_case("Wei and Zou 2019, swap", text.Shuffle(0.23), is_swapped),
    "keywords": text_case("some words, then the text", text.Keywords(0.5, p=1), is_told),
    "back-translation": model_case(
        "one model's answer to another's", text.BackTranslation("en-fr", "fr-en", p=1), lambda t: f"fr-en(en-fr({t}))"
    ),
    "generation": model_case("the model's answer", text.Generation("gpt", p=1), lambda t: f"gpt({t})"),
}


def table() -> str:
    """Every augmentation, its reference and the largest difference, as Markdown."""
    rows = [f"| {name} | {case.by} | {case.measure():.2g} {case.unit} |" for name, case in sorted(CASES.items())]
    return "\n".join(["| augmentation | reference | largest difference |", "| --- | --- | --- |", *rows])


if __name__ == "__main__":
    print(table())
