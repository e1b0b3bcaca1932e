"""Small helpers for the tutorial *Emotions in a voice*: one module a step, each using only the ones before it.

`device`, `clips` (what the files are), `demo` (synthetic ones), `corpora` (where they come from), `pictures` (sound to
picture), `splits` (who is tested on), `training`, `evaluation`, `experiments` (a recipe on every fold), `plots` and
`notebooks`. Import the module you need; only `training` and `experiments` load fastai.
"""
import warnings

for said in ("`torch.jit.script` is deprecated", "The 'mode.chained_assignment' option is deprecated"):  # fastai uses both on import
    warnings.filterwarnings("ignore", said)
