"""Small helpers for the tutorial *Emotions in a voice*: one module a step, each using only the ones before it.

`device`, `clips` (what the files are), `demo` (synthetic ones), `corpora` (where they come from), `pictures` (sound to
picture), `training`, `evaluation`, `plots` and `notebooks`. Import the module you need; only `training` loads fastai.
"""
