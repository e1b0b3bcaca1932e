"""Command line: `python -m emotion_helpers tutorial --corpus demo`, `python -m emotion_helpers evaluate --split emobox`."""
import argparse

from .notebooks import run_tutorial
from .splits import SPLITS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m emotion_helpers", description="Emotions in a voice")
    commands = parser.add_subparsers(dest="command", required=True)
    tutorial = commands.add_parser("tutorial", help="run the notebooks in order, top to bottom")
    tutorial.add_argument("--corpus", choices=["demo", "real"], default="demo", help="synthetic demo voices, or RAVDESS and TESS")
    tutorial.add_argument("--in-place", action="store_true", help="also write the outputs into notebooks/, without the players")
    evaluation = commands.add_parser("evaluate", help="train and test a recipe on the folds of a split; continues where it stopped")
    evaluation.add_argument("--split", choices=SPLITS, default="emobox")
    evaluation.add_argument("--recipe", help="a name in emotion_helpers.training.RECIPES; best unless you say so (for the demo: quick)")
    evaluation.add_argument("--seeds", type=int, default=1, help="how many networks for each fold")
    evaluation.add_argument("--folds", type=int, nargs="+", help="only these, counted from 1")
    evaluation.add_argument("--validate", action="store_true", help="leave the fold alone and test on other speakers: to choose recipes")
    evaluation.add_argument("--corpus", choices=["demo", "real"], default="real", help="synthetic demo voices, or RAVDESS and TESS")
    evaluation.add_argument("--data", help="a folder that holds your RAVDESS and TESS already")
    args = vars(parser.parse_args())
    if args.pop("command") == "evaluate":
        from .experiments import evaluate  # not above: it loads torch, which takes seconds
        evaluate(**args)
    else:
        run_tutorial(**args)


if __name__ == "__main__":
    main()
