// The map of an image in colours, and the line around what is hot.

const maps = new WeakMap(); // by the canvas that shows them
const EDGES = ["", "30", "01", "31", "12", "3012", "02", "32", "23", "02", "0123", "12", "13", "01", "30", ""];

// Where the line is drawn; with a threshold of its own for regions, the slider does not move it.
const hotAbove = () => (section().follows ? section().follows * state.threshold : section().region);

function contour(image, ratio) {
  const lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  lines.setAttribute("class", "contour");
  lines.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
  lines.setAttribute("preserveAspectRatio", ratio);
  svg("path", { transform: `scale(${image.width / 100} ${image.height / 100})` }, lines);
  return lines;
}
// Loads the map of a card or of the open image.
function load(frame, image) {
  const shown = frame.querySelector(".heat"), file = new Image();
  if (!shown) return;
  file.addEventListener("load", () => {
    if (!shown.isConnected) return; // out of view by now
    paint(shown, file);
    trace(frame, image);
  });
  file.src = image.heat;
}
// The file's grey values are numbers of levels.
function paint(shown, file) {
  const { naturalWidth: width, naturalHeight: height } = file;
  Object.assign(shown, { width, height });
  const context = shown.getContext("2d", { willReadFrequently: true });
  context.drawImage(file, 0, 0);
  const pixels = context.getImageData(0, 0, width, height), whole = new Uint32Array(pixels.data.buffer);
  const values = new Float32Array(whole.length), { levels } = section();
  for (let at = 0; at < whole.length; at += 1) {
    const level = pixels.data[4 * at];
    values[at] = levels[level];
    whole[at] = palette[level];
  }
  context.putImageData(pixels, 0, 0);
  maps.set(shown, { width, height, values });
}
function forget(shown) { // frees memory
  shown.width = 0;
  maps.delete(shown);
}
// Red, green, blue and opacity of each level, as one number.
function paletteOf({ levels, scale: [low, high] }) {
  const bytes = levels.flatMap((value) => {
    const heat = Math.max(0, Math.min(1, (value - low) / (high - low)));
    const colour = parseInt(colours[Math.round(heat * (colours.length - 1))].slice(1), 16);
    return [colour >> 16, colour >> 8, colour, Math.round(255 * heat)];
  });
  return new Uint32Array(Uint8Array.from(bytes).buffer);
}
function trace(frame, image) {
  const map = maps.get(frame.querySelector(".heat"));
  if (map) frame.querySelector(".contour path").setAttribute("d", outline(map, hotter(map, hotAbove(), image.lowest)));
}
// How far each value is above where it is hot: above the threshold, and near the peak of its connected part.
function hotter({ width, height, values }, threshold, lowest) {
  const hot = Float32Array.from(values, (value) => value - threshold), seen = new Uint8Array(values.length);
  for (let first = 0; first < values.length; first += 1) {
    if (seen[first] || values[first] <= threshold) continue;
    const part = [first], rim = [];
    let peak = -Infinity;
    seen[first] = 1;
    for (let n = 0; n < part.length; n += 1) { // grows
      const x = part[n] % width, y = (part[n] - x) / width;
      peak = Math.max(peak, values[part[n]]);
      for (let down = Math.max(0, y - 1); down <= Math.min(height - 1, y + 1); down += 1) {
        for (let right = Math.max(0, x - 1); right <= Math.min(width - 1, x + 1); right += 1) {
          const next = down * width + right;
          if (values[next] <= threshold) rim.push(next);
          else if (!seen[next]) seen[next] = part.push(next);
        }
      }
    }
    const least = Math.max(threshold, lowest + own * (peak - lowest));
    for (const at of [...part, ...rim]) hot[at] = values[at] - least;
  }
  return hot;
}
// Marching squares around what is above 0, in a box of 100 x 100 (Lorensen and Cline, 1987, in the plane).
function outline({ width, height }, values) {
  const parts = [], within = (at, side) => Math.max(0, Math.min(side - 1, at));
  const at = (x, y) => {
    const right = within(x, width), down = within(y, height), value = values[down * width + right];
    return right === x && down === y ? value : -Math.abs(value); // so that lines run along the image's edge
  };
  const between = (from, to) => from / (from - to);
  const place = (x, y) => `${(100 * (x + 0.5) / width).toFixed(1)} ${(100 * (y + 0.5) / height).toFixed(1)}`;
  for (let y = -1; y < height; y += 1) {
    for (let x = -1; x < width; x += 1) {
      const a = at(x, y), b = at(x + 1, y), c = at(x + 1, y + 1), d = at(x, y + 1);
      const edges = EDGES[(a > 0) + 2 * (b > 0) + 4 * (c > 0) + 8 * (d > 0)];
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
