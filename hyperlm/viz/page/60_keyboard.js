// Keys on the map: arrows walk the tree, everything the pointer does can be done without it.

const WRITTEN = "input:not([type=checkbox], [type=range]), textarea, dialog";

class Keyboard {
  constructor(app) {
    this.app = app;
    app.canvas.addEventListener("keydown", (event) => this.onMap(event));
    document.addEventListener("keydown", (event) => this.anywhere(event));
    // Keys of a page just opened are for the map; later those beside it scroll what was pressed.
    this.untouched = true;
    const touched = () => (this.untouched = false);
    document.addEventListener("pointerdown", touched, { capture: true, once: true });
    document.addEventListener("wheel", touched, { capture: true, once: true, passive: true });
    app.canvas.addEventListener("focus", () => app.focusMap(true));
    app.canvas.addEventListener("blur", () => app.focusMap(false));
  }

  anywhere(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // Switches and the slider are inputs too, but nobody types there.
    const typing = event.target.closest && event.target.closest(WRITTEN);
    if (event.key === "/" && !typing) {
      event.preventDefault();
      const search = document.getElementById("search");
      search.focus();
      search.select(); // what was searched before gives way to what is typed
    } else if (event.key === "?" && !typing) {
      event.preventDefault();
      this.app.help();
    } else if (event.key === "Escape" && !typing) {
      this.app.hideCard();
      this.app.clearAnswer();
      this.app.choose(-1);
    } else if (event.target === document.body && this.untouched) {
      this.onMap(event);
    }
  }

  onMap(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { app } = this;
    const act = {
      ArrowUp: () => this.walk("up"),
      ArrowDown: () => this.walk("down"),
      ArrowLeft: () => this.walk("previous"),
      ArrowRight: () => this.walk("next"),
      Enter: () => app.state.node >= 0 && app.choose(app.state.node, { centre: true }),
      " ": () => app.state.node >= 0 && app.choose(app.state.node, { centre: true }),
      Home: () => app.reset(),
      "+": () => app.zoom(1.3),
      "=": () => app.zoom(1.3),
      "-": () => app.zoom(1 / 1.3),
      _: () => app.zoom(1 / 1.3),
      0: () => app.zoomTo(1),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  walk(way) {
    const { app } = this;
    const { tree } = app.scene;
    const { root } = tree;
    const here = app.state.node;
    if (here < 0) {
      app.choose(root, { reveal: true });
      return;
    }
    let next = -1;
    if (way === "up" && here !== root) next = tree.parent[here];
    if (way === "down" && tree.children[here]) next = tree.list[tree.start[here]];
    if ((way === "previous" || way === "next") && here !== root) {
      const row = childrenOf(tree, tree.parent[here]);
      const step = way === "next" ? 1 : row.length - 1;
      next = row[(row.indexOf(here) + step) % row.length];
    }
    if (next >= 0 && next !== here) app.choose(next, { reveal: true });
    else app.say(way === "down" ? "No label below this one." : "No label there.");
  }
}
