import hashlib, json, yaml
from dlsvc.registry import resolve as entry
from dlsvc.spec.schema import *
def parse(m): return TrainSpec(**{k: v for k, v in m.items() if k != "identity"})
def load(path, overrides=()):
    m = yaml.safe_load(open(path))
    for o in overrides:
        k, v = o.split("=", 1); d = m; *a, b = k.split(".")
        for x in a: d = d.setdefault(x, {})
        d[b] = yaml.safe_load(v)
    return parse(m)
def resolve(s):
    w = s.scaling.workers; w = w if isinstance(w, int) else w.max
    return s.model_copy(update={"strategy": s.strategy or ("ddp" if w > 1 else "plain"), "task": s.task.model_copy(update={"name": s.task.name or entry("model", s.model.name).options["task"]}),
      "batch": s.batch.model_copy(update={"micro_size": s.batch.micro_size if s.batch.micro_size != "auto" else s.batch.global_size // w})})
def identity(s):
    d = s.dump()
    for k in ("name", "strategy", "scaling", "checkpoint", "evaluate", "publish", "report", "storage"): d.pop(k)
    d["data"].pop("feed"); return hashlib.sha256(json.dumps(d, sort_keys=True).encode()).hexdigest()
