import numpy as np
from PIL import Image
class Preprocess:
    classes = tuple("0123456789")
    def __init__(s, j): s.j = j
    def to_json(s): return s.j
    @classmethod
    def from_json(c, j): return c(j)
    def decode(s, rows): return {"image": np.stack([np.asarray(Image.fromarray(i).resize((s.j["n"],) * 2, 2)) for i in rows["image"]])[..., None], "label": rows["label"]}, []
    def finish(s, a): return {"image": np.ascontiguousarray(((a["image"] / 255 - s.j["m"]) / s.j["s"]).astype("f4").transpose(0, 3, 1, 2)), "label": a["label"]}
def build_preprocess(d, s): return Preprocess({"n": d.image.size, "m": d.image.mean[0], "s": d.image.std[0]})
