"""Command line: `python -m emotion_helpers tutorial`, `... evaluate --split emobox`, `... train`, `... predict clip.wav`."""
import argparse
import sys

from .notebooks import run_tutorial
from .splits import SPLITS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m emotion_helpers", description="Emotions in a voice")
    voices = argparse.ArgumentParser(add_help=False)  # what all that train have in common
    voices.add_argument("--corpus", choices=["demo", "real"], default="real", help="synthetic demo voices, or RAVDESS and TESS")
    voices.add_argument("--data", help="a folder that holds your RAVDESS and TESS already")
    commands = parser.add_subparsers(dest="command", required=True)
    tutorial = commands.add_parser("tutorial", help="run the notebooks in order, top to bottom")
    tutorial.add_argument("--corpus", choices=["demo", "real"], default="demo", help="synthetic demo voices, or RAVDESS and TESS")
    tutorial.add_argument("--in-place", action="store_true", help="also write the outputs into notebooks/, without the players")
    evaluation = commands.add_parser("evaluate", parents=[voices], help="train and test a recipe on the folds of a split; continues where it stopped")
    evaluation.add_argument("--split", choices=SPLITS, default="emobox")
    evaluation.add_argument("--recipe", help="a name in emotion_helpers.training.RECIPES; best unless you say so (for the demo: quick)")
    evaluation.add_argument("--seeds", type=int, default=1, help="how many networks for each fold")
    evaluation.add_argument("--folds", type=int, nargs="+", help="only these, counted from 1")
    evaluation.add_argument("--validate", action="store_true", help="leave the fold alone and test on other speakers: to choose recipes")
    commands.add_parser("train", parents=[voices], help="train the network that answers about your recordings; continues where it stopped")
    prediction = commands.add_parser("predict", help="which emotion is in a recording")
    prediction.add_argument("paths", nargs="+", metavar="recording", help="a sound file, or a folder of them")
    prediction.add_argument("--model", help="a folder with model.safetensors; the one that `train` made unless you say so")
    prediction.add_argument("--json", action="store_true", dest="as_json", help="print all there is as JSON")
    prediction.add_argument("--timeline", metavar="PNG", help="draw one recording's waveform, spectrogram and emotions into this file")
    prediction.add_argument("--csv", default="emotions.csv", help="where the table goes if there are several recordings (emotions.csv)")
    for name, what in (("robustness", "how well strangers are recognised with noise, through a telephone, in a room, ..."),
                       ("adaptation", "what a few clips of a stranger bring for the other clips")):
        commands.add_parser(name, parents=[voices], help=what + "; trains `evaluate`'s networks if they are not there")
    app = commands.add_parser("app", help="speak into the browser: serves a page on this computer only")
    app.add_argument("--port", type=int, help="7860 or the next free one unless you say so")
    args = vars(parser.parse_args())
    command = args.pop("command")  # imports not above: torch takes seconds
    try:
        if command == "evaluate":
            from .experiments import evaluate
            evaluate(**args)
        elif command == "train":
            from .experiments import train_final
            print(f"The network is in {train_final(**args)}; now: python -m emotion_helpers predict RECORDING")
        elif command == "robustness":
            from .robustness import robustness
            print(robustness(**args).to_string(index=False))
        elif command == "adaptation":
            from .adaptation import adaptation
            print(adaptation(**args).to_string(index=False))
        elif command == "app":
            from .app import serve
            serve(**args)
        elif command == "predict":
            from .prediction import predict_files
            sys.exit(1 if predict_files(**args) else 0)
        else:
            run_tutorial(**args)
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
