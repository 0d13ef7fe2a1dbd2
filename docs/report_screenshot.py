"""The picture of a report in the README: headless Chromium's, in few colours.

python docs/report_screenshot.py runs/NAME/report.html docs/report.png
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 1280, 1250
COLOURS = 160
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "shot.png")
        size = f"--window-size={WIDTH},{HEIGHT}"
        profile, target = f"--user-data-dir={folder}/profile", f"--screenshot={shot}"
        subprocess.run([browser, *FLAGS, profile, size, target, args.page.resolve().as_uri()], check=True)
        Image.open(shot).convert("RGB").quantize(COLOURS).save(args.picture, optimize=True)


if __name__ == "__main__":
    main()
