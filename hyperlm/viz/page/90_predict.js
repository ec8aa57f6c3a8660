// A page that a server stands behind: a text goes there, its path and its place come back.

class Predict {
  constructor(app) {
    this.app = app;
    this.form = document.getElementById("ask");
    this.input = document.getElementById("ask-text");
    this.result = document.getElementById("answer");
    this.form.hidden = !app.doc.served;
    this.asked = null;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.send();
      }
    });
  }

  async send() {
    const text = this.input.value.trim();
    if (!text) {
      this.fail("Type a text first.");
      return;
    }
    if (this.asked) this.asked.abort();
    const asked = new AbortController();
    this.asked = asked;
    this.form.setAttribute("aria-busy", "true");
    try {
      const reply = await fetch("/predict", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ text }),
        signal: asked.signal,
      });
      const body = await reply.json().catch(() => ({}));
      if (asked.signal.aborted) return;
      if (!reply.ok) throw new Error(String(body.error || `The server answered ${reply.status}.`));
      this.show(this.checked(body));
    } catch (error) {
      if (error.name === "AbortError") return;
      const lost = error instanceof TypeError;
      this.fail(
        lost ? "The server does not answer. Is hyperlm serve still running?" : error.message,
      );
    } finally {
      if (this.asked === asked) {
        this.asked = null;
        this.form.removeAttribute("aria-busy");
      }
    }
  }

  /** The answer as the rest of the page can use it; nothing in it is trusted. */
  checked(body) {
    const { count } = this.app.scene.tree;
    const node = (v) => Number.isInteger(v) && v >= 0 && v < count;
    const share = (v) => typeof v === "number" && v >= 0 && v <= 1.000001;
    if (!Array.isArray(body.nodes) || !body.nodes.every(node)) {
      throw new Error("The server's answer names labels that this page does not have. Reload it.");
    }
    const positions = {};
    for (const [name, at] of Object.entries(body.positions || {})) {
      if (Array.isArray(at) && at.length === 2 && at.every(Number.isFinite)) positions[name] = at;
    }
    return {
      text: String(body.text || ""),
      nodes: body.nodes,
      probabilities: (body.probabilities || []).map((v) => (share(v) ? v : NaN)),
      top: (body.top || []).filter(
        (entry) => entry && node(entry.node) && share(entry.probability),
      ),
      positions,
      place: null,
    };
  }

  show(answer) {
    const { app } = this;
    const levels = answer.nodes.map((node, k) =>
      make(
        "li",
        {},
        nodeButton(
          app,
          node,
          Number.isFinite(answer.probabilities[k]) ? percent(answer.probabilities[k]) : null,
        ),
        bar(answer.probabilities[k] || 0),
      ),
    );
    const others = answer.top.filter((entry) => entry.node !== answer.nodes.at(-1)).slice(0, 4);
    const paths = (title, entries) =>
      entries.length
        ? [
            make("h3", {}, title),
            make(
              "ul",
              { class: "nodes" },
              entries.map((entry) =>
                make("li", {}, nodeButton(app, entry.node, percent(entry.probability), true)),
              ),
            ),
          ]
        : [];
    this.result.replaceChildren(
      make("h3", {}, "Its path"),
      levels.length
        ? make("ol", { class: "nodes" }, levels)
        : make("p", {}, "No label is sure enough."),
      ...paths("Also answered", others.filter((entry) => entry.answered === true)),
      ...paths("Other paths", others.filter((entry) => entry.answered !== true)),
    );
    app.setAnswer(answer);
  }

  /** Forget the answer, and one that is still to come. */
  clear() {
    if (this.asked) this.asked.abort();
    this.result.replaceChildren();
  }

  fail(words) {
    if (this.app.state.answer) {
      this.app.state.answer = null; // it was to another text
      this.app.panel.show();
      this.app.changed(false);
    }
    this.result.replaceChildren(make("p", { class: "problem", role: "alert" }, words));
  }
}
