// What the page shows, and what the reader does with it.
const { pictures, sections, own, colours } = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const number = (value) => String(Number(value.toPrecision(4)));
const named = (defect, probability) => `${defect} ${Math.round(probability * 100)} %`;
// Rounded down, so that "all" and "99.9 %" are true.
function percent(share) {
  const steps = share > 0.99 ? 1000 : 100;
  return share === 1 ? "all" : `${100 * Math.floor(share * steps + 1e-9) / steps} %`;
}
const state = { section: 0, threshold: 0, show: "all", text: "", sort: "high", open: null, focus: null, zoom: 1 };
let cards = []; // of the section, by number of the image; made when they are needed
const marks = new Map(); // what images are, by folder and name: it does not depend on the detector
for (const { folder, truth } of sections) marks.set(folder, { ...marks.get(folder), ...truth });
const unsaved = new Set(); // folders with marks that are in no file
let placed = []; // numbers of the images whose cards are on the page
let flags = []; // whether an image is above the threshold
let order = []; // numbers of the images that are shown
let truths = {}; // of the section's folder, as far as the reader has said so
let palette = []; // of the section, by number of the level
let axis = null; // of the histogram and the slider

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}
function picture(className, alt) {
  const image = make("img", className);
  image.alt = alt;
  image.decoding = "async";
  return image;
}
function svg(tag, attributes, parent) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}
const isOblong = ({ width, height }) => width > 0 && Math.max(width, height) > 4 * Math.min(width, height);
const section = () => sections[state.section];
const known = () => (section().pool ? "unlabelled images of the pool" : "normal training images");
const isBad = (image) => image.score === null || Boolean(image.unlike) || image.score > state.threshold; // what was not inspected does not pass
const scored = () => section().images.filter((image) => image.score !== null);
const middle = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

function choose(attribute, value) {
  for (const button of all(`button[data-${attribute}]`)) button.setAttribute("aria-checked", button.dataset[attribute] === value);
}
function setView(view) { document.body.dataset.view = view; choose("view", view); }
function setShow(show) { state.show = show; choose("show", show); arrange(); }
function setOpacity(percent) {
  $("opacity").value = percent;
  document.documentElement.style.setProperty("--opacity", $("opacity").value / 100);
}
function setSection(index) {
  state.section = index;
  for (const tab of all("[role=tab]")) tab.setAttribute("aria-selected", Number(tab.dataset.section) === index);
  put([]);
  cards = [];
  flags = [];
  state.focus = null;
  truths = marks.get(section().folder);
  palette = paletteOf(section());
  const { title, saved, folder, scale, training } = section(), aspect = middle(scored().map(({ width, height }) => width / height));
  $("source").textContent = [saved ?? title, folder].filter(Boolean).join(" · ");
  $("scale-low").textContent = number(scale[0]);
  $("scale-high").textContent = number(scale[1]);
  $("legend-training").hidden = !training.length;
  $("legend-training").querySelector("b").textContent = `${known()}, ${training.length}`;
  // As high as most images are, so that these have no bars beside them.
  $("grid").style.setProperty("--aspect", Math.max(0.6, Math.min(2, aspect ?? 1)));
  axis = makeAxis();
  drawHistogram();
  setThreshold(section().moved ?? section().threshold);
  arrange();
}
function moveFocus(by) {
  const place = state.focus === null ? -1 : order.indexOf(state.focus);
  if (order.length) goTo(order[Math.max(0, Math.min(order.length - 1, place + by))]);
}

for (const button of all("button[data-view]")) button.addEventListener("click", () => setView(button.dataset.view));
for (const button of all("button[data-show]")) button.addEventListener("click", () => setShow(button.dataset.show));
for (const tab of all("[role=tab]")) tab.addEventListener("click", () => setSection(Number(tab.dataset.section)));
for (const button of all("button[data-mark]")) button.addEventListener("click", () => setMark(button.dataset.mark));
$("export").addEventListener("click", saveMarks);
$("zoom-in").addEventListener("click", () => setZoom(state.zoom * 1.5));
$("zoom-out").addEventListener("click", () => setZoom(state.zoom / 1.5));
$("stage").addEventListener("dblclick", (event) => setZoom(state.zoom > 1 ? 1 : 3, event));
$("stage").addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return; // a pinch on a trackpad
  event.preventDefault();
  setZoom(state.zoom * Math.exp(-event.deltaY / 200), event);
}, { passive: false });
addEventListener("beforeunload", (event) => { if (unsaved.size) event.preventDefault(); });
$("threshold").addEventListener("input", (event) => {
  const at = Number(event.target.value);
  setThreshold(axis.score(at), at);
});
// A text, since the steps of a number field are equal and those of the axis are not.
$("threshold-value").addEventListener("input", (event) => {
  const typed = event.target.value.trim().replace(",", ".");
  if (/^[-+.\de]+$/i.test(typed)) setThreshold(Number(typed)); // neither blank nor 0x10
});
// What is no number does not stay beside the threshold that is in force.
$("threshold-value").addEventListener("change", (event) => { event.target.value = number(state.threshold); });
$("threshold-value").addEventListener("keydown", (event) => {
  const by = { ArrowUp: 0.01, ArrowDown: -0.01 }[event.key];
  if (by) { event.preventDefault(); shiftThreshold(by); }
});
$("fold").addEventListener("click", () => {
  const open = $("controls").classList.toggle("open");
  $("fold").setAttribute("aria-expanded", open);
});
$("reset").addEventListener("click", () => setThreshold(section().threshold));
$("opacity").addEventListener("input", (event) => setOpacity(event.target.value));
$("filter").addEventListener("input", (event) => { state.text = event.target.value; arrange(); });
$("sort").addEventListener("change", (event) => { state.sort = event.target.value; arrange(); });
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => $("detail").close());
$("detail").addEventListener("close", closed);
$("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
$("grid").addEventListener("focusin", (event) => { state.focus = Number(event.target.dataset.index); });
addEventListener("scroll", () => soon(fill), { passive: true });
addEventListener("resize", () => soon(fill));
let touch = null;
$("stage").addEventListener("touchstart", (event) => { touch = event.touches.length === 1 ? event.touches[0] : null; }, { passive: true });
$("stage").addEventListener("touchend", (event) => {
  const by = touch ? event.changedTouches[0].clientX - touch.clientX : 0;
  if (Math.abs(by) > 60 && !$("stage").matches(".oblong, .zoomed")) step(by < 0 ? 1 : -1);
});
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const isOpen = state.open !== null;
  const move = (by) => (isOpen ? step(by) : moveFocus(by));
  const actions = {
    ArrowRight: () => move(1), j: () => move(1), ArrowLeft: () => move(-1), k: () => move(-1),
    1: () => setView("original"), 2: () => setView("overlay"), 3: () => setView("map"),
    "+": () => setOpacity(Number($("opacity").value) + 10), "-": () => setOpacity(Number($("opacity").value) - 10),
    "]": () => shiftThreshold(0.01), "[": () => shiftThreshold(-0.01),
    r: () => setMark("right"), w: () => setMark("wrong"), z: () => { if (isOpen) setZoom(state.zoom > 1 ? 1 : 3); },
    "/": () => { if (!isOpen) $("filter").focus(); },
  };
  // Square brackets and plus are hard to reach on some keyboards.
  const action = actions[{ ".": "]", ",": "[", "=": "+" }[event.key] ?? event.key];
  if (action) { event.preventDefault(); action(); }
});

$("scale").querySelector("i").style.background = `linear-gradient(90deg, ${colours})`;
setView("overlay");
setOpacity(70);
choose("show", "all");
setSection(0);
