import numpy as np, hashlib
class ResidentTable:
    def __init__(s, c): s.c = c; s.fingerprint = "x"; s.nbytes = sum(a.nbytes for a in c.values())
    def __len__(s): return len(s.c["label"])
    def rows(s, ids): return {k: v[ids] for k, v in s.c.items()}
    def arrays(s): return s.c
class S:
    classes = tuple("0123456789")
    def table(s, split):
        from sklearn.datasets import load_digits
        d = load_digits(); x = np.round(d.images * 255 / 16).astype("u1"); sl = slice(0, 1500) if split == "train" else slice(1500, None)
        return ResidentTable({"image": x[sl], "label": d.target[sl].astype("i8")})
def open_source(d, home): return S()
