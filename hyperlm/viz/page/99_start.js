// The page comes to life, with a small interface for scripts.

function start() {
  let app;
  try {
    app = new App(readDocument(document.getElementById("hyperlm-data").textContent));
  } catch (error) {
    if (!(error instanceof PageError)) throw error;
    const box = document.getElementById("broken");
    box.textContent = error.message;
    box.hidden = false;
    return;
  }
  // For scripts and tests; numbers in, numbers out.
  window.hyperlm = Object.freeze({
    app,
    geometry: Object.freeze({
      relative: (b, p) => Array.from(relative(b[0], b[1], p[0], p[1], new Float64Array(3))),
      distance: (a, b) => geodesicDistance(a[0], a[1], b[0], b[1]),
      changeOfBase: (a, b) => Array.from(changeOfBase(a, b)),
      dragTranslation: (w, v) => Array.from(dragTranslation(w, v)),
      translation: (d, x, y) => Array.from(translation(d, x, y)),
      compose: (g, f) => Array.from(compose(g, f)),
      applied: (m, x, y) => applied(m, x, y),
      imageOfOrigin: (m) => imageOfOrigin(m),
      geodesicCircle: (p, q) =>
        Array.from(geodesicCircle(p[0], p[1], q[0], q[1], new Float64Array(3))),
      coneEnds: (b, p, psi) => {
        const out = new Float64Array(4);
        coneEnds(b[0], b[1], p[0], p[1], psi, out, 0);
        return Array.from(out);
      },
    }),
    palettes: PALETTES,
    markers: MARKERS,
    svg: () => exportSvg(app),
    png: (ratio) => exportCanvas(app, ratio).toDataURL("image/png"),
    link: () => writeLink(app),
  });
}

start();
