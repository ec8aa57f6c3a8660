// The present view as a file. SVG: true arcs, names as text that the serializer escapes. PNG: the
// same drawing as on the screen, at twice its size or more.

const SVG = "http://www.w3.org/2000/svg";

function svgElement(tag, attributes, ...inside) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...inside);
  return element;
}

/** Stands in for a canvas context: what is stroked and filled becomes path elements of a group. */
class SvgContext {
  constructor(group) {
    this.group = group;
    this.parts = [];
    this.dash = [];
    this.lineCap = "butt";
    this.globalAlpha = 1;
    this.lineWidth = 1;
  }

  beginPath() {
    this.parts = [];
    this.at = null;
  }

  moveTo(x, y) {
    this.parts.push(`M${fine(x)} ${fine(y)}`);
    this.at = [x, y];
  }

  lineTo(x, y) {
    this.parts.push(`L${fine(x)} ${fine(y)}`);
    this.at = [x, y];
  }

  closePath() {
    this.parts.push("Z");
  }

  arc(x, y, r, from, to, backwards = false) {
    let turn = to - from;
    if (!backwards && turn < 0) turn += 2 * Math.PI;
    if (backwards && turn > 0) turn -= 2 * Math.PI;
    const end = [x + r * Math.cos(to), y + r * Math.sin(to)];
    const start = [x + r * Math.cos(from), y + r * Math.sin(from)];
    if (!this.at || Math.hypot(this.at[0] - start[0], this.at[1] - start[1]) > 0.05) {
      this.parts.push(`${this.parts.length ? "L" : "M"}${fine(start[0])} ${fine(start[1])}`);
    }
    const one = (large, sweep, px, py) =>
      this.parts.push(`A${fine(r)} ${fine(r)} 0 ${large} ${sweep} ${fine(px)} ${fine(py)}`);
    if (Math.abs(turn) > 6.28) {
      // A whole circle needs two arcs.
      one(0, 1, 2 * x - start[0], 2 * y - start[1]);
      one(0, 1, start[0], start[1]);
    } else {
      one(Math.abs(turn) > Math.PI ? 1 : 0, backwards ? 0 : 1, end[0], end[1]);
    }
    this.at = end;
  }

  setLineDash(dash) {
    this.dash = dash;
  }

  stroke() {
    const look = { fill: "none", stroke: this.strokeStyle, "stroke-width": fine(this.lineWidth) };
    if (this.dash.length) look["stroke-dasharray"] = this.dash.join(" ");
    if (this.lineCap !== "butt") look["stroke-linecap"] = this.lineCap;
    if (this.globalAlpha < 1) look["stroke-opacity"] = this.globalAlpha;
    this.append(look);
  }

  fill() {
    const look = { fill: this.fillStyle };
    if (this.globalAlpha < 1) look["fill-opacity"] = this.globalAlpha;
    this.append(look);
  }

  append(look) {
    const d = this.parts.join("");
    if (d) this.group.append(svgElement("path", { d, ...look }));
  }
}

function fine(v) {
  return String(Math.round(v * 100) / 100);
}

function exportSvg(app) {
  const { scene, visible, painter, theme, state, doc } = app;
  painter.paint(app.context, app.ratio, theme, state); // the lists that follow are this frame's
  const W = fine(scene.width);
  const H = fine(scene.height);
  const svg = svgElement("svg", {
    xmlns: SVG,
    viewBox: `0 0 ${W} ${H}`,
    width: W,
    height: H,
    "font-family": FONT,
    role: "img",
  });
  svg.append(
    svgElement("title", {}, `${doc.title}: ${scene.layout.label}`),
    svgElement("desc", {}, `${doc.generator}. ${scene.layout.note}`),
    svgElement("rect", { width: W, height: H, fill: theme.paper }),
  );
  const layer = (name, paint) => {
    const group = svgElement("g", { class: name });
    paint(new SvgContext(group));
    if (group.childElementCount) svg.append(group);
  };
  layer("disk", (context) => painter.paintDisk(context, theme));
  if (state.cones) layer("cones", (context) => paintCones(painter, context, theme, state));
  if (state.texts && scene.hasTexts) svg.append(svgTexts(app));
  if (state.errors && scene.hasTexts)
    layer("errors", (context) => paintErrors(painter, context, theme));
  layer("edges", (context) => painter.paintEdges(context, theme));
  layer("path", (context) => paintPath(painter, context, theme, state));
  layer("nodes", (context) => svgNodes(app, context));
  svg.append(svgNames(app));
  layer("marks", (context) =>
    paintMarks(painter, context, theme, { ...state, hoverNode: -1, hoverText: -1 }),
  );
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(svg)}\n`;
}

function svgNodes({ scene, visible, theme }, context) {
  const { tree } = scene;
  const { x, y } = scene.nodes;
  for (let k = visible.count - 1; k >= 0; k--) {
    const i = visible.list[k];
    context.beginPath();
    markerPath(
      context,
      visible.dot[i] < 2.5 ? "o" : markerOf(tree.top[i]),
      x[i],
      y[i],
      visible.dot[i],
    );
    context.fillStyle = theme.classes[classOf(tree.top[i])];
    context.fill();
  }
  context.beginPath();
  context.arc(x[tree.root], y[tree.root], visible.dot[tree.root], 0, 2 * Math.PI);
  context.fillStyle = theme.ink;
  context.fill();
}

function svgNames({ scene, labels, theme }) {
  const { tree } = scene;
  const group = svgElement("g", {
    class: "names",
    stroke: theme.disk,
    "stroke-width": 3,
    "stroke-linejoin": "round",
    "paint-order": "stroke",
  });
  for (let k = labels.count - 1; k >= 0; k--) {
    const i = labels.node[k];
    // The width it was placed with, whatever font draws it.
    const place = {
      x: fine(labels.x[k]),
      y: fine(labels.y[k]),
      "font-size": fine(labels.size[k]),
      textLength: fine(labels.width[k]),
      lengthAdjust: "spacingAndGlyphs",
    };
    if (labels.bold[k]) place["font-weight"] = 600;
    if (labels.angle[k]) {
      place.transform = `rotate(${fine((labels.angle[k] * 180) / Math.PI)} ${place.x} ${place.y})`;
    }
    place.fill = i === tree.root ? theme.ink : theme.texts[classOf(tree.top[i])];
    group.append(svgElement("text", place, labels.text(i)));
  }
  return group;
}

function svgTexts(app) {
  const { scene, theme, doc } = app;
  const paths = new Map();
  const taken = new Set(); // one dot for those that fall on the same half pixel
  for (let i = 0; i < scene.texts.count; i++) {
    const px = scene.texts.x[i];
    const py = scene.texts.y[i];
    const key = Math.round(px) * 65536 + Math.round(py);
    if (!onScreen(scene, px, py) || taken.has(key)) continue;
    taken.add(key);
    const node = doc.texts.gold[i] >= 0 ? doc.texts.gold[i] : doc.texts.predicted[i];
    const color = node < 0 ? theme.muted : theme.classes[classOf(scene.tree.top[node])];
    if (!paths.has(color)) paths.set(color, []);
    paths.get(color).push(`M${fine(px)} ${fine(py)}h0`);
  }
  const group = svgElement("g", {
    class: "texts",
    "stroke-width": 2,
    "stroke-linecap": "round",
    "stroke-opacity": 0.45,
  });
  for (const [color, parts] of paths)
    group.append(svgElement("path", { d: parts.join(""), stroke: color }));
  return group;
}

/** A canvas with the present view at `ratio` pixels to one. */
function exportCanvas(app, ratio) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(app.scene.width * ratio);
  canvas.height = Math.round(app.scene.height * ratio);
  app.painter.paint(canvas.getContext("2d"), ratio, app.theme, app.state);
  return canvas;
}

function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function fileName(app, ending) {
  const plain = folded(app.doc.title)
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 40);
  return `${plain || "labels"}-${app.scene.layout.name.replace(/[^a-z0-9]/gi, "")}.${ending}`;
}
