// The line around what is hot. The opacity of a map's picture is the map's value.

const opacities = new WeakMap(); // by the map's picture
const EDGES = ["", "30", "01", "31", "12", "3012", "02", "32", "23", "02", "0123", "12", "13", "01", "30", ""];

// Where the line is drawn; with a threshold of its own for regions, the slider does not move it.
const hotAbove = (image) => (section().follows ? Math.max(section().follows * state.threshold, image.halfway) : image.hot);

function contour(image, ratio) {
  const lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  lines.setAttribute("class", "contour");
  lines.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
  lines.setAttribute("preserveAspectRatio", ratio);
  svg("path", { transform: `scale(${image.width / 100} ${image.height / 100})` }, lines);
  return lines;
}
// Draws the line of a card or of the open image, as soon as its map is there.
function trace(frame, image) {
  const heat = frame.querySelector(".heat");
  if (!heat?.src) return;
  if (!heat.complete) heat.addEventListener("load", () => trace(frame, image), { once: true });
  if (!heat.complete || !heat.naturalWidth) return;
  const [low, high] = section().scale, level = 255 * (hotAbove(image) - low) / (high - low);
  frame.querySelector(".contour path").setAttribute("d", outline(opacityOf(heat), level));
}
function opacityOf(heat) {
  if (opacities.has(heat)) return opacities.get(heat);
  const canvas = make("canvas"), { naturalWidth: width, naturalHeight: height } = heat;
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(heat, 0, 0);
  const values = context.getImageData(0, 0, width, height).data.filter((_, at) => at % 4 === 3);
  const found = { width, height, values, highest: values.reduce((most, value) => Math.max(most, value), 0) };
  opacities.set(heat, found);
  return found;
}
// Marching squares, in a box of 100 x 100 (Lorensen and Cline, 1987, in the plane).
function outline({ width, height, values, highest }, level) {
  if (highest <= level) return "";
  const cold = Math.min(level, 0) - 1, parts = []; // around the image
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? cold : values[y * width + x]);
  const between = (from, to) => (level - from) / (to - from);
  const place = (x, y) => `${(100 * (x + 0.5) / width).toFixed(1)} ${(100 * (y + 0.5) / height).toFixed(1)}`;
  for (let y = -1; y < height; y += 1) {
    for (let x = -1; x < width; x += 1) {
      const a = at(x, y), b = at(x + 1, y), c = at(x + 1, y + 1), d = at(x, y + 1);
      const edges = EDGES[(a > level) + 2 * (b > level) + 4 * (c > level) + 8 * (d > level)];
      if (!edges) continue;
      const ends = [[x + between(a, b), y], [x + 1, y + between(b, c)], [x + between(d, c), y + 1], [x, y + between(a, d)]];
      for (let n = 0; n < edges.length; n += 2) parts.push(`M${place(...ends[edges[n]])}L${place(...ends[edges[n + 1]])}`);
    }
  }
  return parts.join("");
}
function traceAll() {
  for (const index of placed) trace(cards[index], section().images[index]);
  if (state.open !== null) trace($("stage"), section().images[state.open]);
}
