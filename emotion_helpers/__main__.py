"""Command line: `python -m emotion_helpers tutorial`, `... evaluate`, `... predict clip.wav`."""

import argparse
import json
import os
import sys
from contextlib import suppress
from dataclasses import replace
from importlib import import_module

from . import EmotionHelpersError

COMMANDS = {  # name: the function that it calls (imported only then: torch takes seconds), help
    "tutorial": ("notebooks.run_tutorial", "run the notebooks in order, top to bottom"),
    "evaluate": ("beyond.cross_validation.evaluate", "train and test a recipe on a split's folds"),
    "train": ("beyond.cross_validation.train_final", "train the network that predict and app ask"),
    "robustness": ("beyond.robustness.study_robustness", "unseen speakers in noise, rooms, ..."),
    "adaptation": ("beyond.adaptation.study_adaptation", "what a few clips of a speaker bring"),
    "predict": ("beyond.prediction.predict_files", "which emotion is in a recording"),
    "app": ("beyond.app.serve", "speak into the browser, on this computer only"),
}
PAIRS = {"nargs": "+", "default": [], "metavar": "NAME=VALUE", "action": "extend"}
TRAINING = [  # what all commands that train have in common; they go on where they were stopped
    ("--data", "a folder that holds your RAVDESS and TESS already", {}),
    ("--recipe", "a name in emotion_helpers.models.RECIPES", {}),
    ("--change", "fields of the recipe, such as height=96 mixup=0", PAIRS),
    ("--settings", "of the spectrogram, such as top_db=60 n_mels=128", PAIRS),
]
OPTIONS = {
    "tutorial": [("--in-place", "write the outputs into notebooks/ too", {"action": "store_true"})],
    "evaluate": [
        ("--split", "random, luna, gender, ...: see splits.py", {"default": "emobox"}),
        ("--seeds", "how many networks for each fold", {"type": int, "default": 1}),
        ("--folds", "only these, counted from 1", {"type": int, "nargs": "+", "action": "extend"}),
        ("--validate", "leave the fold alone, test on others", {"action": "store_true"}),
        *TRAINING,
    ],
    **dict.fromkeys(("train", "robustness", "adaptation"), TRAINING),
    "predict": [
        ("paths", "a sound file, or a folder of them", {"nargs": "+", "metavar": "recording"}),
        ("--model", "a folder with model.safetensors, if not the one that `train` made", {}),
        ("--json", "print all as JSON", {"action": "store_true", "dest": "as_json"}),
        ("--timeline", "draw one recording's emotions over time", {"metavar": "PNG"}),
        ("--csv", "where the table goes (for several recordings: emotions.csv)", {}),
    ],
    "app": [("--port", "7860 or the next free one unless given", {"type": int})],
}


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog="python -m emotion_helpers")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, description) in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        if name not in ("predict", "app"):
            text = "demo: synthetic voices; real: RAVDESS and TESS"
            default = "demo" if name == "tutorial" else "real"
            command.add_argument("--corpus", help=text, choices=["demo", "real"], default=default)
        for flag, text, options in OPTIONS[name]:
            command.add_argument(flag, help=text, **options)
    return parser


def parse_pairs(pairs: list[str]) -> dict:
    """NAME=VALUE texts as a dictionary; a value is JSON where it can be, else text."""
    values = {}
    for name, equals, value in (pair.partition("=") for pair in pairs):
        if not equals:
            raise EmotionHelpersError(f"{name}: NAME=VALUE is needed, such as height=96")
        values[name] = value
        with suppress(ValueError):
            values[name] = json.loads(value)
    return values


def read_options(command: str, options: dict) -> dict:
    """The options of a command that trains, with recipe and settings as objects."""
    from .models import DEPLOYED_RECIPE, RECIPES, REPORTED_RECIPE
    from .pictures import SpectrogramSettings

    names = REPORTED_RECIPE if command == "evaluate" else DEPLOYED_RECIPE
    name, change = options["recipe"] or names[options["corpus"]], options.pop("change")
    if name not in RECIPES:
        raise EmotionHelpersError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}")
    try:
        recipe, values = RECIPES[name], parse_pairs(change)
        if recipe.corruption_p:  # its teacher is asked about the same pictures
            own = values.pop("start", {})
            same = {"height", "width", "kernel_scale", "tess"} & {*values}
            values["start"] = replace(recipe.start, **own | {key: values[key] for key in same})
        options["recipe"] = replace(recipe, **values)
        options["settings"] = SpectrogramSettings(**parse_pairs(options["settings"]))
    except TypeError as error:  # an unknown name, or a word for a number
        raise EmotionHelpersError(f"--change or --settings: {error}") from error
    return options | ({"name": " ".join([name, *change])} if command == "evaluate" else {})


def main() -> None:
    """Do what the command line says. A problem that has a name is a sentence, not a traceback."""
    options = vars(make_parser().parse_args())
    command = options.pop("command")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # file names may hold what a terminal cannot show
    try:
        module, function = COMMANDS[command][0].rsplit(".", 1)
        options = read_options(command, options) if "recipe" in options else options
        result = getattr(import_module(f".{module}", __package__), function)(**options)
        if command in ("robustness", "adaptation"):
            print(result.to_string(index=False))
        if command == "train":
            ask = f"python -m emotion_helpers predict --model {result} RECORDING"
            print(f"The network is in {result}; now: {ask}")
        sys.exit(1 if command == "predict" and result else 0)
    except (EmotionHelpersError, OSError, OverflowError) as error:  # a port of 99999
        sys.exit(str(error))
    except ModuleNotFoundError as error:
        sys.exit(f'{error}: in the clone, pip install ".[app,notebooks]" brings it')
    except KeyboardInterrupt:
        print("stopped; what is finished is kept", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(130)  # not sys.exit: threads that still work would crash the interpreter's end
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        sys.exit(f"{error}: set NUMBA_CACHE_DIR to a folder that can be written")


if __name__ == "__main__":
    main()
