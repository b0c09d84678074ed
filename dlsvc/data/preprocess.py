import numpy as np
from PIL import Image
class Preprocess:
    classes = tuple("0123456789")
    def to_json(s): return {}
    @classmethod
    def from_json(c, j): return c()
    def decode(s, rows): return {"image": np.stack([np.asarray(Image.fromarray(i).resize((32, 32), 2)) for i in rows["image"]])[..., None], "label": rows["label"]}, []
    def finish(s, a): return {"image": np.ascontiguousarray(((a["image"] / 255 - .5) / .5).astype("f4").transpose(0, 3, 1, 2)), "label": a["label"]}
def build_preprocess(d, s): return Preprocess()
