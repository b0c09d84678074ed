def build_augmentations(a): return []
