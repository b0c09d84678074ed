"""What requests of the Hugging Face dialect hold, task by task: their `inputs` and `parameters` as typed inputs.

Each gives the inputs, and whether the answer is that of one rather than a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dlsvc.errors import UsageError
from dlsvc.predictor import Input
from serving.dialects.values import kind_of, read_bytes, read_features, read_integer, read_number, read_text

DEFAULT_TOP_K = 5
DEFAULT_TEMPLATE = "This is a photo of {}."

Read = tuple[list[Input], bool]
Reader = Callable[[Any, Mapping[str, Any]], Read]


def read_image(value: Any) -> Input:
    return {"image": read_bytes(value, "an image")}


def read_classification(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """An image or several, a row of features or several."""
    read_integer(parameters, "top_k", DEFAULT_TOP_K, 1)
    if isinstance(inputs, str):
        return [read_image(inputs)], True
    if not isinstance(inputs, list) or not inputs:
        raise UsageError('"inputs" must be an image in base64, a list of numbers, or a list of either')
    if isinstance(inputs[0], str):
        return [read_image(value) for value in inputs], False
    if isinstance(inputs[0], list):
        return [read_features(row, place) for place, row in enumerate(inputs)], False
    return [read_features(inputs, 0)], True


def read_sounds(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """A sound or several."""
    read_integer(parameters, "top_k", DEFAULT_TOP_K, 1)
    several = inputs if isinstance(inputs, list) else [inputs]
    return [{"audio": read_bytes(value, "a sound")} for value in several], not isinstance(inputs, list)


def read_films(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """A film or several."""
    read_integer(parameters, "top_k", DEFAULT_TOP_K, 1)
    several = inputs if isinstance(inputs, list) else [inputs]
    return [{"video": read_bytes(value, "a film")} for value in several], not isinstance(inputs, list)


def read_series(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """A series, which is a list of steps, each a list of channels; or several."""
    read_integer(parameters, "top_k", DEFAULT_TOP_K, 1)
    depth, first = 0, inputs
    while isinstance(first, list) and first:
        depth, first = depth + 1, first[0]
    if depth not in (2, 3):
        raise UsageError('"inputs" must be a list of steps, each a list of numbers, or a list of such lists')
    several = inputs if depth == 3 else [inputs]
    return [{"series": series} for series in several], depth == 2


def read_continuation(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """A text or several to go on with."""
    found = read_writing(parameters)
    several = inputs if isinstance(inputs, list) else [inputs]
    read_flag(parameters, "return_full_text")
    if read_flag(parameters, "stream") and len(several) != 1:
        raise UsageError(f"a stream is of one text, not of {len(several)}; ask for each by itself")
    return [{"text": read_text(text, f"input {place}"), **found} for place, text in enumerate(several)], False


def read_question(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """A question, perhaps with an image or a list of them, or a conversation that ends with one."""
    given = {"question": inputs} if isinstance(inputs, str) else inputs
    if "question" in parameters:  # as the client has it: beside the image, which is there twice
        given = {"question": parameters["question"], "image": parameters.get("image", inputs)}
        # There it says how many answers are wanted; among other parameters it is the sampler's.
        if parameters.get("top_k", 1) != 1:
            raise UsageError('a question gets one answer: "top_k" can only be 1 beside "question"')
    elif "image" in parameters:
        raise UsageError('"image" belongs into "inputs", beside its "question" or "conversation"')
    if not isinstance(given, dict) or given.keys() - {"image"} not in ({"question"}, {"conversation"}):
        raise UsageError(
            '"inputs" must be a question, or an object with "question" or "conversation", and perhaps "image", one or '
            "several"
        )
    said = given["conversation"] if "conversation" in given else read_text(given["question"], '"question"')
    image = _read_images(given["image"]) if "image" in given else {}
    return [{**image, "text": said, **read_writing(parameters)}], False


def _read_images(value: Any) -> Input:
    if not isinstance(value, list):
        return read_image(value)
    if not value:
        raise UsageError('"image" is an empty list; leave it out')
    return {"image": [read_bytes(one, "an image", f"image {place}") for place, one in enumerate(value)]}


def read_writing(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """How a text is written."""
    found: dict[str, Any] = {"seed": read_integer(parameters, "seed", 0, 0)}
    for name, least in (("max_new_tokens", 1), ("top_k", 0)):
        if name in parameters:
            found[name] = read_integer(parameters, name, 0, least)
    for name in ("temperature", "top_p"):
        if name in parameters:
            found[name] = read_number(parameters, name)
    if read_flag(parameters, "do_sample"):
        found.setdefault("temperature", 1.0)
    elif "do_sample" in parameters:
        found["temperature"] = 0.0
    return found


def read_translation(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """A text or several to translate, from the one language that the model reads to the one that it writes."""
    found = read_beam(parameters)
    several = inputs if isinstance(inputs, list) else [inputs]
    return [{"text": read_text(text, f"input {place}"), **found} for place, text in enumerate(several)], False


def read_sentences(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """A text or several, each perhaps with a word that is hidden."""
    cut = read_truncate(parameters)
    several = inputs if isinstance(inputs, list) else [inputs]
    found: list[Input] = [{"text": read_text(text, f"input {place}"), **cut} for place, text in enumerate(several)]
    return found, not isinstance(inputs, list)


def embedded(read: Reader) -> Reader:
    """Reads the same, of which vectors are wanted, perhaps of length one."""

    def found(inputs: Any, parameters: Mapping[str, Any]) -> Read:
        read_flag(parameters, "normalize")
        return read(inputs, parameters)

    return found


def read_texts(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """A text or several. The client expects a list of answers even to one."""
    read_integer(parameters, "top_k", DEFAULT_TOP_K, 1)
    return read_sentences(inputs, parameters)[0], False


def read_truncate(parameters: Mapping[str, Any]) -> Input:
    """Whether of a text that is too long the beginning is to be read."""
    return {"truncate": True} if read_flag(parameters, "truncate") else {}


def read_flag(parameters: Mapping[str, Any], name: str) -> bool:
    """What is given as true or false; false where it isn't given."""
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise UsageError(f'"{name}" must be true or false, not {kind_of(value)}')
    return value


def read_reconstruction(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    return read_seed(inputs, parameters) if "seed" in parameters else ([read_image(inputs)], True)


def read_seed(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    return [{"seed": read_integer(parameters, "seed", 0, 0)}], True


def read_class(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """A seed, and the class that a sample is to be of; an empty text is any."""
    asked = read_text(inputs, '"inputs"').strip()
    return [read_making(parameters) | ({"class": asked} if asked else {})], True


def read_prompt(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """A text of what is to be made; or an image to begin from, when parameters say what to do with it."""
    if parameters.keys() & {"prompt", "strength", "mask_image"}:
        found = {**read_image(inputs), "text": read_text(parameters.get("prompt", ""), '"prompt"')}
    else:
        found = {"text": read_text(inputs, '"inputs"')}
    found |= read_truncate(parameters)
    if "negative_prompt" in parameters:
        found["negative"] = read_text(parameters["negative_prompt"], '"negative_prompt"')
    if "mask_image" in parameters:
        found["mask"] = read_bytes(parameters["mask_image"], "an image", "mask_image")
    if "strength" in parameters:
        found["strength"] = read_number(parameters, "strength")
    return [{**found, **read_making(parameters)}], True


def read_making(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """How a sample is made: from which seed, in how many steps, and how closely as asked."""
    found: dict[str, Any] = {"seed": read_integer(parameters, "seed", 0, 0)}
    if "num_inference_steps" in parameters:
        found["steps"] = read_integer(parameters, "num_inference_steps", 1, 1)
    if "guidance_scale" in parameters:
        found["guidance"] = read_number(parameters, "guidance_scale")
    return found


def read_bootstrapped(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """An image to write of, texts to embed, or an image with a text that may be of it."""
    found = read_beam(parameters)
    if isinstance(inputs, dict):
        if not inputs or inputs.keys() - {"image", "text"} or "image" not in inputs:
            raise UsageError('"inputs" must be a text, a list of texts, or an object with "image" and perhaps "text"')
        if "text" not in inputs:
            return [{**read_image(inputs["image"]), **found}], True
        _refuse_beam(found, "an image with a text is told to match or not")
        return [{**read_image(inputs["image"]), "text": read_text(inputs["text"], '"text"')}], True
    _refuse_beam(found, "of texts vectors are made")
    several = inputs if isinstance(inputs, list) else [inputs]
    return [{"text": read_text(text, f"input {place}")} for place, text in enumerate(several)], inputs is not several


def read_captioning(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """One image."""
    return [{**read_image(inputs), **read_beam(parameters)}], False


def read_beam(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """How a text is searched for."""
    found: dict[str, Any] = {}
    if "num_beams" in parameters:
        found["num_beams"] = read_integer(parameters, "num_beams", 1, 1)
    if "length_penalty" in parameters:
        found["length_penalty"] = read_number(parameters, "length_penalty")
    return found


def _refuse_beam(found: Mapping[str, Any], why: str) -> None:
    """Raises UsageError where a search is asked for and nothing is written."""
    if found:
        raise UsageError(f'"{next(iter(found))}" is for writing of {{"image": ...}} alone: {why}; leave it out')


def read_contrastive(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """Texts to embed, or an image with labels to choose from."""
    cut = read_truncate(parameters)
    if "candidate_labels" in parameters:
        return [read_image(inputs), *({"text": text, **cut} for text in label_texts(parameters))], True
    if "hypothesis_template" in parameters:
        raise UsageError('"hypothesis_template" is what labels are put into; give "candidate_labels" too')
    if isinstance(inputs, str):
        return [{"text": read_text(inputs, '"inputs"'), **cut}], True
    if not isinstance(inputs, list):
        raise UsageError(
            f'"inputs" must be a text or a list of texts, not {kind_of(inputs)}; send an image as raw bytes'
        )
    return [{"text": read_text(text, f"input {place}"), **cut} for place, text in enumerate(inputs)], False


def label_texts(parameters: Mapping[str, Any]) -> list[str]:
    """Each label in each template, one label after the other."""
    labels = parameters["candidate_labels"]
    if not isinstance(labels, list) or len(labels) < 2:
        raise UsageError('"candidate_labels" must be a list of at least two texts')
    texts = [read_text(label, f"label {place}") for place, label in enumerate(labels)]
    return [template.replace("{}", text) for text in texts for template in label_templates(parameters)]


def label_templates(parameters: Mapping[str, Any]) -> list[str]:
    """The texts that a label is put into, one or several."""
    given = parameters.get("hypothesis_template", DEFAULT_TEMPLATE)
    templates = given if isinstance(given, list) and given else [given]
    for template in templates:
        if "{}" not in read_text(template, '"hypothesis_template"'):
            raise UsageError('"hypothesis_template" must have {} where the label goes')
    return templates


def read_segmentation(inputs: Any, parameters: Mapping[str, Any]) -> Read:
    """One image."""
    read_threshold(parameters)
    return [read_image(inputs)], True


def read_threshold(parameters: Mapping[str, Any]) -> float:
    value = parameters.get("threshold", 0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise UsageError('"threshold" must be a number from 0 to 1')
    return float(value)
