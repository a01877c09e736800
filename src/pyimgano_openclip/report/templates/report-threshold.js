// The threshold, the histogram and the counts.
const BINS = 48;

// Linear around the usual scores and logarithmic far from them: most images are normal, and their
// scores are close together, where the threshold has to be set.
function makeAxis() {
  const { training, threshold } = section();
  const scores = scored().map((image) => image.score).concat(training).sort((a, b) => a - b);
  const rank = (share) => scores[Math.round(share * (scores.length - 1))] ?? threshold;
  const middle = rank(0.5);
  const width = rank(0.75) - rank(0.25) || rank(1) - rank(0) || Math.abs(middle) || 1;
  const place = (score) => Math.asinh((score - middle) / width);
  const low = place(Math.min(rank(0), threshold)), high = place(Math.max(rank(1), threshold));
  const margin = (high - low || 1) * 0.02;
  return {
    low: low - margin, high: high + margin, place,
    share: (score) => Math.max(0, Math.min(1, (place(score) - low + margin) / (high - low + 2 * margin))),
    score: (at) => middle + width * Math.sinh(at),
  };
}
function drawHistogram() {
  const box = $("histogram"), { low, high } = axis, width = 480 / BINS;
  const counts = (scores) => {
    const found = new Array(BINS).fill(0);
    for (const score of scores) found[Math.min(BINS - 1, Math.floor(axis.share(score) * BINS))] += 1;
    return found;
  };
  const own = counts(scored().map((image) => image.score));
  const training = counts(section().training);
  const highest = Math.max(1, ...own), usual = Math.max(1, ...training);
  box.replaceChildren();
  own.forEach((count, bin) => {
    const height = 72 * Math.sqrt(count / highest); // keeps a few images among thousands visible
    const bar = svg("rect", { x: bin * width + 0.5, width: width - 1, y: 72 - height, height }, box);
    bar.dataset.middle = axis.score(low + (bin + 0.5) / BINS * (high - low));
    svg("title", {}, bar).textContent = `${count} image${count === 1 ? "" : "s"}`;
  });
  if (section().training.length) {
    const path = training.map((count, bin) => (count ? `M${bin * width} 72V${72 - 60 * Math.sqrt(count / usual)}h${width}V72` : ""));
    const line = svg("path", { d: path.join("") }, box);
    svg("title", {}, line).textContent = `${section().training.length} ${known()}`;
  }
  svg("line", { y1: -4, y2: 76, id: "threshold-line" }, box);
  const slider = $("threshold");
  slider.min = low; slider.max = high; slider.step = "any";
  $("lowest").textContent = number(axis.score(low));
  $("highest").textContent = number(axis.score(high));
}
function shiftThreshold(by) {
  setThreshold(axis.score(axis.place(state.threshold) + by * (axis.high - axis.low)));
  $("threshold-value").value = number(state.threshold);
}
function setThreshold(value, slider = axis.place(value)) {
  if (!Number.isFinite(value)) return;
  state.threshold = section().moved = value; // which another tab and back does not undo
  const { images, threshold, unreadable } = section();
  let bad = 0;
  images.forEach((image, index) => {
    const flagged = isBad(image);
    bad += flagged && image.score !== null;
    if (cards[index]) showMark(cards[index], image);
    if (flagged === flags[index]) return;
    flags[index] = flagged;
    if (cards[index]) mark(cards[index], flagged);
  });
  const x = 480 * axis.share(value);
  $("threshold-line").setAttribute("x1", x);
  $("threshold-line").setAttribute("x2", x);
  for (const bar of all("#histogram rect")) bar.classList.toggle("bad", Number(bar.dataset.middle) > value);
  $("threshold").value = slider;
  $("threshold").setAttribute("aria-valuetext", number(value));
  if (document.activeElement !== $("threshold-value")) $("threshold-value").value = number(value);
  $("reset").hidden = value === threshold;
  $("own-threshold").textContent = number(threshold);
  const counts = $("counts");
  counts.replaceChildren(make("b", "bad", bad), " anomalous · ", make("b", "good", images.length - unreadable - bad), " normal");
  const total = images.length;
  $("summary").textContent = `${total} image${total === 1 ? "" : "s"}, ${bad} anomalous`;
  if (unreadable) {
    const link = make("a", "", `${unreadable} unreadable`);
    link.href = `#unreadable-${state.section}`;
    $("summary").append(", ", link);
  }
  if (state.show !== "all" || state.sort === "near") soon(arrange);
  if (state.open !== null) showVerdict();
  if (section().follows) soon(traceAll);
}
