// Beside the map: the path to what is chosen, its card, and its neighbourhood as plain lists, which
// say the same as the picture to those who do not see it.

const FEW = 30; // neighbours listed before one asks for more

class Panel {
  constructor(app) {
    this.app = app;
    this.crumbs = document.getElementById("crumbs");
    this.card = document.getElementById("card");
    this.near = document.getElementById("near");
    this.heading = document.getElementById("near-heading");
    // The address holds the view: the link moves the focus alone.
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault();
      this.heading.focus();
    });
  }

  show() {
    const { app } = this;
    const { state } = app;
    const { tree } = app.scene;
    const { text, found } = state;
    let node = state.node;
    if (text >= 0) {
      const { predicted, gold } = app.doc.texts;
      node = predicted[text] >= 0 ? predicted[text] : gold[text];
    }
    const list = text < 0 && node < 0 && found;
    if (node < 0 && !list && state.answer && state.answer.nodes.length) node = state.answer.nodes.at(-1);
    if (node < 0) node = tree.root;
    const parts = [this.crumbs, this.card, this.near];
    const held = parts.some((part) => part.contains(document.activeElement));
    this.showPath(node);
    let card;
    if (text >= 0) card = textCard(app, text, false);
    else card = list ? foundCard(app, found) : nodeCard(app, node, false);
    this.card.replaceChildren(card);
    this.showNear(node);
    // What had the focus is gone: the keyboard goes on where the choice stands now.
    if (held) (this.near.querySelector("[aria-current]") || this.heading).focus({ preventScroll: true });
  }

  showPath(node) {
    const { app } = this;
    this.crumbs.parentElement.hidden = node === app.scene.tree.root; // its card says it all
    const path = [app.scene.tree.root, ...pathOf(app.scene.tree, node)];
    // A long chain: its ends say enough.
    const shown = path.length > 9 ? [...path.slice(0, 3), -1, ...path.slice(-4)] : path;
    this.crumbs.replaceChildren(
      ...shown.map((n) => {
        if (n < 0) return make("li", {}, make("span", { class: "gap" }, `${path.length - 7} more`));
        const button = nodeButton(app, n);
        if (n === node) button.setAttribute("aria-current", "location");
        return make("li", {}, button);
      }),
    );
  }

  showNear(node) {
    const { tree } = this.app.scene;
    const parts = [];
    const kids = Array.from(childrenOf(tree, node));
    if (kids.length) {
      const title = node === tree.root ? "Top classes" : "Children";
      parts.push(this.row(title, kids, -1));
    }
    const { parentsOf, childrenOf: others } = tree;
    if (others.has(node)) parts.push(this.row("Also below", others.get(node), -1));
    if (parentsOf.has(node)) parts.push(this.row("Also under", parentsOf.get(node), -1));
    if (node !== tree.root) {
      const row = Array.from(childrenOf(tree, tree.parent[node]));
      if (row.length > 1) parts.push(this.row("Siblings", row, node));
    }
    this.near.replaceChildren(...parts);
  }

  row(title, nodes, here) {
    const { app } = this;
    const { tree } = app.scene;
    const list = make("ul", { class: "nodes" });
    const entry = (n) => {
      const extra = tree.children[n] ? grouped(tree.below[n]) : null;
      const button = nodeButton(app, n, extra);
      if (n === here) button.setAttribute("aria-current", "true");
      return make("li", {}, button);
    };
    const at = Math.max(0, nodes.indexOf(here));
    const from = nodes.length <= FEW ? 0 : Math.max(0, Math.min(at - 5, nodes.length - FEW));
    list.append(...nodes.slice(from, from + FEW).map(entry));
    const heading = make(
      "h3",
      {},
      `${title} `,
      make("span", { class: "extra" }, grouped(nodes.length)),
    );
    const section = make("section", {}, heading, list);
    if (nodes.length > FEW) section.append(pages(list, nodes, entry, at));
    return section;
  }
}
