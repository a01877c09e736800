// The image cards: which are shown, in which order, and which are in the document.

function makeCard(index) {
  const image = section().images[index], card = make("button", "card");
  card.type = "button";
  card.dataset.index = index;
  card.title = image.name;
  const frame = make("span", "frame");
  if (image.score === null) frame.append(make("span", "missing", image.error));
  else frame.append(picture("original", image.name), make("canvas", "heat"), contour(image, "xMidYMid meet"));
  if (isOblong(image)) showHottest(card, image);
  const caption = make("span", "caption"), name = make("span", "name");
  name.append(make("bdi", "", image.name));
  caption.append(name, make("span", "score", image.score === null ? "unreadable" : number(image.score)));
  card.append(frame, caption);
  card.addEventListener("click", () => open(index));
  mark(card, isBad(image));
  showMark(card, image);
  return card;
}
// Of an oblong image a card shows the part around the hottest region.
function showHottest(card, { width, height, regions }) {
  card.classList.add("oblong");
  if (!regions.length) return;
  const [left, top, right, bottom] = regions[0].box, aspect = Number($("grid").style.getPropertyValue("--aspect")) * height / width;
  const place = (middle, shown) => (shown < 1 ? Math.max(0, Math.min(1, (middle - shown / 2) / (1 - shown))) : 0.5);
  const x = place((left + right) / 2 / width, aspect), y = place((top + bottom) / 2 / height, 1 / aspect);
  card.style.setProperty("--at", `${100 * x}% ${100 * y}%`);
}
function mark(card, flagged) {
  card.classList.toggle("bad", flagged);
  card.querySelector(".score").classList.toggle("bad", flagged);
}

// Only the cards near the viewport are in the document, between paddings as high as all the others:
// with thousands of cards, scrolling would be slow. All cards have the same height.
const AHEAD = 600; // pixels
function put(wanted) {
  const kept = new Set(wanted), before = new Set(placed);
  for (const index of placed) {
    if (kept.has(index)) continue;
    cards[index].remove();
    for (const original of all("img", cards[index])) original.removeAttribute("src");
    for (const heat of all(".heat", cards[index])) forget(heat);
  }
  let next = $("grid").firstElementChild;
  for (const index of wanted) {
    const card = cards[index] ||= makeCard(index);
    if (!before.has(index)) {
      const image = section().images[index];
      for (const original of all("img", card)) original.src = pictures[image.name];
      load(card, image);
    }
    if (card === next) next = next.nextElementSibling;
    else $("grid").insertBefore(card, next);
  }
  placed = wanted;
}
function measure() {
  const style = getComputedStyle($("grid")), columns = style.gridTemplateColumns.split(" ").length;
  if (!placed.length) put(order.slice(0, columns));
  const pitch = (cards[placed[0]]?.offsetHeight ?? 1) + parseFloat(style.rowGap);
  return { columns, pitch, rows: Math.ceil(order.length / columns) };
}
function fill() {
  const grid = $("grid"), { columns, pitch, rows } = measure(), { top } = grid.getBoundingClientRect();
  const row = (y) => Math.max(0, Math.min(rows, Math.floor((y - top) / pitch)));
  const from = row(-AHEAD), to = Math.min(rows, row(innerHeight + AHEAD) + 1);
  grid.style.setProperty("--before", `${from * pitch}px`);
  grid.style.setProperty("--after", `${(rows - to) * pitch}px`);
  put(order.slice(from * columns, to * columns));
}
function goTo(index) {
  const place = order.indexOf(index);
  if (place < 0) return;
  if (!placed.includes(index)) {
    const { columns, pitch } = measure(), { top } = $("grid").getBoundingClientRect();
    scrollBy(0, top + Math.floor(place / columns) * pitch - innerHeight / 2);
    fill();
  }
  cards[index].focus({ preventScroll: true });
  cards[index].scrollIntoView({ block: "nearest" });
}
// Once per frame: sliders and wheels fire more often than the page can be drawn.
const waiting = new Set();
function soon(task) {
  if (waiting.has(task)) return;
  waiting.add(task);
  requestAnimationFrame(() => { waiting.delete(task); task(); });
}

function arrange() {
  const { images } = section();
  const wanted = state.text.trim().toLowerCase();
  order = images.map((_, index) => index).filter((index) => {
    const image = images[index];
    if (state.show === "anomalous" && !isBad(image)) return false;
    if (state.show === "normal" && isBad(image)) return false;
    if (state.show === "wrong" && verdictOf(image) !== "wrong") return false;
    return !wanted || image.name.toLowerCase().includes(wanted)
      || image.regions.some((region) => (region.defect || "").toLowerCase().includes(wanted));
  });
  const score = (index) => images[index].score ?? Number.MAX_VALUE; // what could not be read has no score
  const by = {
    high: (a, b) => score(b) - score(a),
    low: (a, b) => score(a) - score(b),
    near: (a, b) => Math.abs(score(a) - state.threshold) - Math.abs(score(b) - state.threshold),
    name: (a, b) => images[a].name.localeCompare(images[b].name, undefined, { numeric: true }),
  };
  order.sort(by[state.sort]);
  fill();
  $("nothing").hidden = order.length > 0;
}
