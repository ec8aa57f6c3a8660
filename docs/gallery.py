"""Every picture of the gallery, made again: ``python docs/gallery.py RUN``.

Runs the commands that stand in ``docs/gallery.md`` on a run folder, and photographs the explorer
page in headless Chromium. The gallery's run is ``hyperlm train --data demo --freeze --init names``.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browser import Browser, Tab, find_chromium
from explorer_pages import page_of, place

from hyperlm import load
from hyperlm.viz.answering import answerer
from hyperlm.viz.explorer import explorer_html, page_layouts
from hyperlm.viz.serve import PageServer
from hyperlm.viz.sources import collect_model

HERE = Path(__file__).resolve().parent
LARGEST = (1500, 920)
# A third of the bytes; chosen for coverage, 256 colours keep those of small marks. k-means moves
# each to what it stands for, so that large grounds keep their colour.
PALETTE = {"colors": 256, "method": Image.Quantize.MAXCOVERAGE, "kmeans": 1}
SOUGHT = "light"
TYPED = "She climbed the volcano to draw the crater lake, which she later painted for the museum."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of the gallery's run")
    parser.add_argument("--images", type=Path, default=HERE / "images", help="where pictures go")
    options = parser.parse_args()
    options.images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        figures(options.run, made)
        page(options.run, made)
        for picture in sorted(made.glob("*.png")):
            target = options.images / picture.name
            image = Image.open(picture).convert("RGB")
            image.thumbnail(LARGEST, Image.Resampling.LANCZOS)
            image.quantize(**PALETTE).save(target, optimize=True)
            print(target)


def figures(run: str, folder: Path) -> None:
    """The commands of the document that end in a picture."""
    text = (HERE / "gallery.md").read_text(encoding="utf-8")
    for command in re.findall(r"`(hyperlm visualize runs/demo [^`]*-o gallery-[a-z]+\.png)`", text):
        words = shlex.split(command.replace("runs/demo", shlex.quote(run), 1))
        words[-1] = str(folder / words[-1])
        print(command, file=sys.stderr)
        subprocess.run([sys.executable, "-m", *words], check=True)


def page(run: str, folder: Path) -> None:
    """The explorer page, as a file and served."""
    program = find_chromium()
    if program is None:
        sys.exit("no Chromium: install it (Debian: chromium) or set HYPERLM_CHROMIUM")
    model = load(run, device="cpu")
    data = collect_model(model, run)
    layouts = page_layouts(data)
    animal, central = map(model.taxonomy.index, ("Animal", "Place"))
    server = PageServer("127.0.0.1", 0)
    served = explorer_html(data, layouts, served=True)
    threading.Thread(target=server.serve, args=(served, answerer(model, layouts))).start()
    with tempfile.TemporaryDirectory() as pages, Browser(program) as browser:
        address = page_of(data, Path(pages), layouts)

        def photograph(name: str, view: str, *then: Callable[[Tab], None], **screen: Any) -> None:
            tab = browser.open(**screen)
            tab.go(f"{address}#v=1&{view}" if view else server.url)
            for act in then:
                act(tab)
            tab.settle()
            tab.screenshot(folder / f"page-{name}.png")

        photograph("tree", "l=tree", lambda tab: point_at(tab, animal))
        photograph("learned", f"l=horopca&s=te&b={central}&n={central}", dark=True)
        photograph("search", "l=tree", search)
        photograph("phone", f"l=tree&n={central}", width=390, height=844, touch=True)
        photograph("serve", "", ask)
    server.shutdown()


def point_at(tab: Tab, node: int) -> None:
    """Let the card of a label appear."""
    tab.mouse("mouseMoved", *place(tab, "nodes", node), button="none")
    tab.wait("!document.getElementById('hover').hidden")


def search(tab: Tab) -> None:
    """Find texts by a word, and list them all."""
    tab.key("/")
    tab.type(SOUGHT)
    tab.key("ArrowUp")  # the last line
    tab.key("Enter")


def ask(tab: Tab) -> None:
    """Type a text and wait for its path."""
    tab.call("text => { document.getElementById('ask-text').value = text; }", TYPED)
    tab.evaluate("document.querySelector('#ask button').click()")
    tab.wait("document.getElementById('answer').textContent.includes('%')", 30)


if __name__ == "__main__":
    main()
