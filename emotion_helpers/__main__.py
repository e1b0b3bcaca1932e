"""Command line: `python -m emotion_helpers tutorial --corpus demo`."""
import argparse

from .notebooks import run_tutorial


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m emotion_helpers", description="Emotions in a voice")
    commands = parser.add_subparsers(dest="command", required=True)
    tutorial = commands.add_parser("tutorial", help="run the notebooks in order, top to bottom")
    tutorial.add_argument("--corpus", choices=["demo", "real"], default="demo", help="synthetic demo voices, or RAVDESS and TESS")
    tutorial.add_argument("--in-place", action="store_true", help="also write the outputs into notebooks/, without the players")
    args = parser.parse_args()
    run_tutorial(args.corpus, in_place=args.in_place)


if __name__ == "__main__":
    main()
