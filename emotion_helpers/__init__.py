"""Small helpers for the tutorial *Emotions in a voice*: one module a step, each using only the ones before it.

`clips` (what the files are) -> `corpora` (where they come from) -> `pictures` (sound to picture) -> `training` ->
`evaluation`; `plots` draws for all of them and `tutorial` runs the notebooks. Import the module of the step you need;
only `training` loads fastai.
"""
