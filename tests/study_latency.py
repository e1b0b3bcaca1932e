"""How long a visitor waits from "Stop" to the app's answer, in a headless Chromium on this machine.

    .venv/bin/python -W ignore tests/study_latency.py clip.wav

The clip is the microphone; the network is untrained, of the series' recipe; the first answer, which
loads what later ones have, is left out. Prints milliseconds: in all, and of them in `predict`.
"""

import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch
from playwright.sync_api import sync_playwright
from test_app import CHROMIUM, FLAGS, MICROPHONE

from emotion_helpers.beyond import app
from emotion_helpers.models import HALF, Network, build_network, describe_device
from emotion_helpers.pictures import SpectrogramSettings

WATCH = """() => {
    const box = document.querySelector('#answer textarea, #answer input'), before = box.value;
    const stop = [...document.querySelectorAll('button')]
        .find(button => [button.innerText.trim(), button.ariaLabel].includes('Stop'));
    window.waited = 0;
    const begun = performance.now();
    const timer = setInterval(() => {
        if (box.value && box.value != before) {
            window.waited = performance.now() - begun;
            clearInterval(timer);
        }
    }, 2);
    stop.click();
}"""


def main(clip: str) -> None:
    torch.manual_seed(1)
    model = build_network(HALF.kernel_scale).eval()
    network = Network(model, SpectrogramSettings(), HALF, {"corpus": "real", "clips_folder": ""})
    predict, inside, waited = app.predict, [], []

    def timed(*arguments):
        begun = time.perf_counter()
        answer = predict(*arguments)
        inside.append(1000 * (time.perf_counter() - begun))
        return answer

    app.predict = timed
    _, (_, address, _) = app.launch(partial(app.build_page, network))
    flags = [*FLAGS, f"{MICROPHONE}{Path(clip).absolute()}"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        for _ in range(8):
            page = chromium.new_page(viewport={"width": 1000, "height": 1500})
            page.goto(address)
            record = page.get_by_role("button", name="Record", exact=True)
            record.wait_for()
            record.click()
            time.sleep(3)
            page.evaluate(WATCH)
            page.wait_for_function("window.waited > 0")
            waited.append(page.evaluate("window.waited"))
            time.sleep(3)  # for the drawings
            page.close()
        chromium.close()
    for what, times in (("from Stop to the answer", waited[1:]), ("of it in predict", inside[1:])):
        print(f"{what}: {median(times):.0f} ms ({min(times):.0f} to {max(times):.0f})")
    print(describe_device())


if __name__ == "__main__":
    main(sys.argv[1])
