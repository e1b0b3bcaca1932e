"""Small helpers for the tutorial *Emotions in a voice*: one module a step, each using only the ones before it.

`device`, `clips` (what the files are), `demo` (synthetic ones), `corpora` (where they come from), `pictures` (sound to
picture), `splits` (who is tested on), `training`, `sturdiness` (its second stage, in noise), `evaluation`, `plots`,
`recordings` (any file, in pieces), `prediction`, `neighbours` (similar training clips), `experiments` (a recipe on every fold),
`explanation`, `adaptation` (to one speaker), `robustness` (away from the studio), `app` and `notebooks`. Import the module you
need; what comes before `training`, but for `device`, loads no torch.
"""
import warnings

for said in ("`torch.jit.script` is deprecated", "The 'mode.chained_assignment' option is deprecated"):  # fastai uses both on import
    warnings.filterwarnings("ignore", said)
